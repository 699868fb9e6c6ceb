<?php
// What the test could not see otherwise: the cookies that arrived here, and the session's id.
require 'app.php';
begin();
json(['cookie' => $_SERVER['HTTP_COOKIE'] ?? '', 'id' => session_id()]);
