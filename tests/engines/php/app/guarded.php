<?php
// Only for who is signed in, as most pages of most apps are.
require 'app.php';
begin();
if (!isset($_SESSION['user'])) {
    header('Location: login.php');
    exit;
}
json(['started' => $_SESSION['started']]);
