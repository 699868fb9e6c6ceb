<?php
require 'app.php';
begin();
json(state());
