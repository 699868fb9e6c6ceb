<?php
// What every page shares: the session of this app, with its own folder and its own timeout, and two ways to answer.
ini_set('session.save_handler', 'files');
ini_set('session.save_path', $_SERVER['SESSIONS']);
ini_set('session.gc_maxlifetime', $_SERVER['TIMEOUT']);
// Every request sweeps (or none): what a busy server does by chance once in a while.
ini_set('session.gc_probability', $_SERVER['SWEEP']);
ini_set('session.gc_divisor', '1');
ini_set('session.use_strict_mode', $_SERVER['STRICT']);
ini_set('session.use_only_cookies', $_SERVER['IDS_IN_URLS'] ? '0' : '1');
ini_set('session.use_trans_sid', $_SERVER['IDS_IN_URLS']);

function now(): int
{
    return (int) (microtime(true) * 1000);
}

function begin(): void
{
    session_start();
    $_SESSION['started'] ??= now();
    $_SESSION['data'] ??= [];
}

function state(): array
{
    return [
        'started' => $_SESSION['started'],
        'now' => now(),
        'user' => $_SESSION['user'] ?? null,
        'data' => (object) $_SESSION['data'],
    ];
}

function json(array $value): void
{
    header('Content-Type: application/json');
    echo json_encode($value);
}
