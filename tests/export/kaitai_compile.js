// Compiles Kaitai Struct descriptions: {name: description} in, {name: {file: text}} out, as JSON.
const compiler = require("kaitai-struct-compiler");
const fs = require("fs");

async function main() {
  const { language, descriptions } = JSON.parse(fs.readFileSync(0, "utf8"));
  const found = {};
  for (const [name, description] of Object.entries(descriptions)) {
    found[name] = await compiler.compile(language, description, null, false);
  }
  process.stdout.write(JSON.stringify(found));
}

main().catch((error) => {
  process.stderr.write(`${error}\n`);
  process.exitCode = 1;
});
