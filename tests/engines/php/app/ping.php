<?php
// The heartbeat page: it touches the session, and its `started` tells a session from an empty one under the same id.
require 'app.php';
begin();
json(['started' => $_SESSION['started']]);
