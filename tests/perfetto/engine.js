// Runs Perfetto's own trace processor, the WebAssembly that its page loads, outside of a browser.
//
//     node engine.js FOLDER
//
// FOLDER holds engine_bundle.js and its .wasm files. Each line of standard input names a folder: `requests.bin` in it holds
// messages of the page's protocol, each a length (4 bytes, little-endian) and that many bytes; `replies.bin` becomes what the
// engine answered, end to end, and an empty line says so. The bundle is a web worker: what it wants of a browser are a message
// port and two ways to load the .wasm beside it.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");

const folder = process.argv[2];
const beside = (url) => fs.readFileSync(path.join(folder, path.basename(String(url))));

class FileRequest {
  open(_method, url) {
    this.url = url;
  }

  send() {
    const bytes = beside(this.url);
    this.response = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
    this.status = 200;
    this.onload?.();
  }
}

function fail(error) {
  process.stderr.write(`${String(error?.stack ?? error).slice(0, 2000)}\n`);
  process.exit(1);
}

function startEngine() {
  Object.assign(globalThis, {
    self: globalThis,
    WorkerGlobalScope: class {},
    importScripts() {},
    location: { href: `file://${folder}/engine_bundle.js` },
    XMLHttpRequest: FileRequest,
    fetch: async (url) => new Response(beside(url), { headers: { "Content-Type": "application/wasm" } }),
  });
  // Without these names the bundle does not take itself for a program of node's.
  new Function("process", "require", "module", "exports", beside("engine_bundle.js").toString())();
  return globalThis.onmessage;
}

function* frames(bytes) {
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    yield new Uint8Array(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
}

async function main() {
  let replies = [];
  const port = { postMessage: (reply) => replies.push(Buffer.from(reply)) };
  startEngine()({ data: port });
  // The module is compiled at once; what makes it ready to answer waits in promises, which are all done before the next turn.
  await new Promise(setImmediate);
  for await (const asked of readline.createInterface({ input: process.stdin })) {
    replies = [];
    for (const frame of frames(fs.readFileSync(path.join(asked, "requests.bin")))) port.onmessage({ data: frame });
    fs.writeFileSync(path.join(asked, "replies.bin"), Buffer.concat(replies));
    process.stdout.write("\n");
  }
  process.exit(0);
}

process.on("uncaughtException", fail);
process.on("unhandledRejection", fail);
main().catch(fail);
