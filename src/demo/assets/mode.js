// Loaded before the page is painted: which side this is, and where the other one is.
window.demo = { mode: {{mode}}, other: {{other}}, run: {{run}}, operators: {{operators}} };
document.documentElement.dataset.mode = window.demo.mode;
