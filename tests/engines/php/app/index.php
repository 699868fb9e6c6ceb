<?php
require 'app.php';
begin();
$other = htmlspecialchars($_SERVER['OTHER']);
?>
<!doctype html>
<html><head><title><?= htmlspecialchars($_SERVER['APP']) ?></title></head><body>
<h1><?= htmlspecialchars($_SERVER['APP']) ?></h1>
<p>Session since <output id="started"><?= $_SESSION['started'] ?></output>,
signed in: <output id="user"><?= htmlspecialchars($_SESSION['user'] ?? '') ?></output></p>
<ul>
<li><a href="state.php">State</a>
<li><a href="data.php?key=note&amp;value=kept">Data</a>
<li><a href="login.php">Sign in</a>
<li><a href="logout.php">Sign out</a>
<li><a href="ping.php">Ping</a>
<li><a href="/<?= $other ?>/index.php"><?= $other ?></a>
<li><a href="static.txt">A file</a>
</ul>
</body></html>
