// Shows /openapi.json. The library refuses to render 3.1 by that number, and shows what it does not
// know of it as it stands: so it is told 3.0. The document itself stays what it is.
"use strict";

async function show() {
  const page = document.getElementById("page");
  try {
    const answer = await fetch("openapi.json");
    const spec = { ...(await answer.json()), openapi: "3.0.3" };
    SwaggerUIBundle({
      spec,
      domNode: page,
      deepLinking: true,
      displayRequestDuration: true,
      validatorUrl: null,
      presets: [SwaggerUIBundle.presets.apis],
    });
  } catch (error) {
    page.textContent = `The description of the API could not be loaded: ${error}`;
  }
}

show();
