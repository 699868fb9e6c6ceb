// Both apps in one process, each with a store, a secret and a timeout of its own; the cookie's name and path are what
// express-session gives them: `connect.sid` at `/`.
'use strict';

const express = require('express');
const session = require('express-session');

function app(name, other, seconds) {
  const app = express();
  app.use(express.urlencoded({ extended: false }));
  app.use(
    session({
      secret: `the secret of ${name}`,
      resave: false,
      saveUninitialized: false,
      rolling: process.env.VARIANT !== 'fixed',
      cookie: { maxAge: seconds * 1000 },
    }),
  );

  const started = (request) => (request.session.started ??= Date.now());
  const state = (request, response) =>
    response.json({
      started: started(request),
      now: Date.now(),
      user: request.session.user ?? null,
      data: request.session.data ?? {},
    });

  app.get('/index', (request, response) => {
    started(request);
    response.send(index(name, other, request.session));
  });
  app.get('/state', state);
  app.get('/data', (request, response) => {
    request.session.data = { ...request.session.data, [request.query.key]: request.query.value };
    state(request, response);
  });
  app.get('/ping', (request, response) => response.json({ started: started(request) }));
  app.get('/guarded', (request, response) =>
    request.session.user ? response.json({ started: started(request) }) : response.redirect(`/${name}/login`),
  );
  app.get('/quiet', (request, response) => response.type('text').send('quiet\n'));
  app.get('/static.txt', (request, response) => response.type('text').send('a static file\n'));
  app.get('/id', (request, response) => {
    started(request);
    response.json({ cookie: request.get('cookie') ?? '', id: request.sessionID });
  });
  app.get('/login', (request, response) => {
    started(request);
    response.send(login);
  });
  // Another id for whoever signs in, with what was in the old session.
  app.post('/login', (request, response, next) => {
    const { started, data } = request.session;
    request.session.regenerate((error) => {
      if (error) return next(error);
      Object.assign(request.session, { started, data, user: request.body.user });
      response.redirect(`/${name}/index`);
    });
  });
  app.get('/logout', (request, response, next) =>
    request.session.destroy((error) => (error ? next(error) : response.redirect(`/${name}/index`))),
  );
  app.get('/forget', (request, response) => {
    delete request.session.user;
    state(request, response);
  });
  app.get('/slow', (request, response) =>
    setTimeout(() => state(request, response), Math.min(Number(request.query.ms), 30000)),
  );
  return app;
}

const escape = (text) => String(text).replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

const index = (name, other, session) => `<!doctype html>
<html><head><title>${name}</title></head><body>
<h1>${name}</h1>
<p>Session since <output id="started">${session.started}</output>,
signed in: <output id="user">${escape(session.user ?? '')}</output></p>
<ul>
<li><a href="state">State</a>
<li><a href="data?key=note&amp;value=kept">Data</a>
<li><a href="login">Sign in</a>
<li><a href="logout">Sign out</a>
<li><a href="ping">Ping</a>
<li><a href="/${other}/index">${other}</a>
<li><a href="static.txt">A file</a>
</ul>
</body></html>
`;

const login = `<!doctype html>
<html><head><title>Sign in</title></head><body>
<form method="post" action="login"><input name="user"><input type="password" name="password"><button>Sign in</button></form>
</body></html>
`;

const root = express();
root.use('/AppA', app('AppA', 'AppB', 10));
root.use('/AppB', app('AppB', 'AppA', 300));
root.listen(Number(process.env.PORT), '127.0.0.1');
