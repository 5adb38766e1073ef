/** Tasks, versions and rollouts; API keys and webhooks. */

import { path } from "./transport.js";

class Resource {
  constructor(transport) {
    Object.defineProperty(this, "transport", { value: transport });
  }

  ask(method, parts, { signal, ifMatch, query, ...body } = {}) {
    const request = { method, path: path(...parts), query, signal, ifMatch };
    if (method !== "GET" && Object.keys(body).length) request.body = body;
    return this.transport.send(request);
  }

  async end(parts, { signal, ifMatch } = {}) {
    await this.transport.read({ method: "DELETE", path: path(...parts), signal, ifMatch });
  }
}

export class Tasks extends Resource {
  create(name, options) {
    return this.ask("POST", ["tasks"], { ...options, name });
  }

  get(task, options) {
    return this.ask("GET", ["tasks", task], options);
  }

  async list(options) {
    return (await this.ask("GET", ["tasks"], options)).tasks;
  }

  change(task, options) {
    return this.ask("PATCH", ["tasks", task], options);
  }

  delete(task, options) {
    return this.end(["tasks", task], options);
  }
}

export class Artifacts extends Resource {
  upload(task, code, options) {
    return this.ask("POST", ["tasks", task, "artifacts"], { ...options, code });
  }

  async list(task, options) {
    return (await this.ask("GET", ["tasks", task, "artifacts"], options)).artifacts;
  }

  get(task, version, options) {
    return this.ask("GET", ["tasks", task, "artifacts", version], options);
  }

  program(task, version, { signal } = {}) {
    const target = path("tasks", task, "artifacts", version, "program");
    return this.transport.read({ method: "GET", path: target, signal });
  }

  activate(task, version, options) {
    return this.ask("POST", ["tasks", task, "artifacts", version, "activate"], options);
  }
}

export class Rollouts extends Resource {
  get(task, options) {
    return this.ask("GET", ["tasks", task, "rollout"], options);
  }

  change(task, options) {
    return this.ask("PUT", ["tasks", task, "rollout"], options);
  }

  promote(task, options) {
    return this.ask("POST", ["tasks", task, "rollout", "promote"], options);
  }

  rollback(task, options) {
    return this.ask("POST", ["tasks", task, "rollout", "rollback"], options);
  }
}

export class Keys extends Resource {
  create(name, scopes, options) {
    return this.ask("POST", ["keys"], { ...options, name, scopes });
  }

  async list({ tenant, signal } = {}) {
    return (await this.ask("GET", ["keys"], { query: { tenant }, signal })).keys;
  }

  revoke(id, options) {
    return this.ask("DELETE", ["keys", id], options);
  }
}

export class Webhooks extends Resource {
  create(url, events, options) {
    return this.ask("POST", ["webhooks"], { ...options, url, events });
  }

  async list(options) {
    return (await this.ask("GET", ["webhooks"], options)).webhooks;
  }

  get(id, options) {
    return this.ask("GET", ["webhooks", id], options);
  }

  change(id, options) {
    return this.ask("PATCH", ["webhooks", id], options);
  }

  delete(id, options) {
    return this.end(["webhooks", id], options);
  }

  ping(id, options) {
    return this.ask("POST", ["webhooks", id, "ping"], options);
  }

  async deliveries(id, options) {
    return (await this.ask("GET", ["webhooks", id, "deliveries"], options)).deliveries;
  }

  redeliver(id, delivery, options) {
    return this.ask("POST", ["webhooks", id, "deliveries", delivery, "redeliver"], options);
  }
}
