<?php
// The manual's own example of session_destroy: the content, the cookie, the file.
require 'app.php';
session_start();
$_SESSION = [];
$cookie = session_get_cookie_params();
setcookie(session_name(), '', time() - 42000, $cookie['path']);
session_destroy();
header('Location: index.php');
