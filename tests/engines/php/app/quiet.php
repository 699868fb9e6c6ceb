<?php
// Never touches the session.
header('Content-Type: text/plain');
echo "quiet\n";
