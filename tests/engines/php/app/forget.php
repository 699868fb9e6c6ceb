<?php
// Forgets who is signed in, and nothing else: the session and its id live on, as where a sign-in has a timeout of its own.
require 'app.php';
begin();
unset($_SESSION['user']);
json(state());
