<?php
require 'app.php';
begin();
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    // As the manual asks for: another id for whoever signs in, and the old one is gone.
    session_regenerate_id(true);
    $_SESSION['user'] = $_POST['user'];
    header('Location: index.php');
    exit;
}
?>
<!doctype html>
<html><head><title>Sign in</title></head><body>
<form method="post" action="login.php"><input name="user"><input type="password" name="password"><button>Sign in</button></form>
</body></html>
