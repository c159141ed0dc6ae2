// A service in JavaScript, on StarlingMonkey: says what it was asked, counts words that are sent to it. A
// wasi:http/proxy component; `world.wit` says so.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const { pathname, searchParams } = new URL(request.url);
  console.log(`${request.method} ${pathname}`);
  if (pathname === "/words" && request.method === "POST") {
    return json(count(await request.text()));
  }
  if (pathname === "/") {
    const language = "JavaScript";
    return json({ language, method: request.method, name: searchParams.get("name"), accept: request.headers.get("accept") });
  }
  return new Response(`there is no ${pathname}\n`, { status: 404 });
}

function count(text) {
  const counts = {};
  for (const word of text.split(/\s+/).filter(Boolean)) {
    counts[word] = (counts[word] ?? 0) + 1;
  }
  return counts;
}

function json(value) {
  return new Response(JSON.stringify(value) + "\n", { headers: { "content-type": "application/json" } });
}
