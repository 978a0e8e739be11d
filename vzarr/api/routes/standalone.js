// Lets the neuroglancer client of the Python package run by itself.
//
// That client is built to be led by a Python process: it takes a token from /v/TOKEN/ in its address, asks for the
// state and for credentials there, and listens to a stream of events.  Here nothing leads it.
(() => {
  // Without a state in the address it would wait for one.
  if (!location.hash) history.replaceState(null, "", "#!{}");

  // A stream that opens and stays silent; a real one would take one of the few connections of a browser.
  window.EventSource = class {
    constructor() {
      setTimeout(() => this.onopen?.());
    }
    close() {}
  };

  // dvid:// asks for credentials first; our server wants none.
  const fetchAnything = window.fetch;
  window.fetch = async (resource, options) =>
    String(resource).endsWith("/credentials/vzarr") && JSON.parse(options.body).key === "DVID"
      ? Response.json({ generation: 1, credentials: {} })
      : fetchAnything(resource, options);
})();
