<?php
require 'app.php';
begin();
$_SESSION['data'][$_GET['key']] = $_GET['value'];
json(state());
