<?php
// Holds the session's lock for `ms`, as a report does that takes its time.
require 'app.php';
begin();
usleep(min((int) $_GET['ms'], 30000) * 1000);
json(state());
