// Checks the links of every Markdown file of the project: that the file is there and has the heading.
//
//     cd target/clients/docs && node ../../../tests/docs/links.mjs
//
// Nothing is fetched: links to other sites are not looked at. Pages of the book (docs/src) must also be in its SUMMARY.md, and may only link
// to one another, since what else the project has is not part of the built book.

import { readFile, readdir } from "node:fs/promises";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

import { load } from "../playground/packages.mjs";

const { remark } = await load("remark");
const { default: validateLinks } = await load("remark-validate-links");
const { engine } = await load("unified-engine");
const { visit } = await load("unist-util-visit");

const root = fileURLToPath(new URL("../../", import.meta.url));
const book = join(root, "docs", "src") + sep;
const summary = join(book, "SUMMARY.md");

// Folders without pages of ours.
const skipped = new Set(["target", "models", "node_modules", "prepared-by-cargo-xtask-engine"]);

async function pages(folder) {
  const entries = await readdir(folder, { withFileTypes: true });
  const found = entries.map((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name.startsWith(".") || skipped.has(entry.name) ? [] : pages(path);
    return entry.isFile() && entry.name.endsWith(".md") ? [path] : [];
  });
  return (await Promise.all(found)).flat().sort();
}

const isLocal = (url) => !/^([a-z][a-z0-9+.-]*:|#|\/\/)/i.test(url);

// The files that a page links to.
function targets(tree, path) {
  const found = [];
  visit(tree, ["link", "image", "definition"], (node) => {
    if (isLocal(node.url)) found.push({ node, path: resolve(dirname(path), decodeURI(node.url).replace(/#.*/s, "")) });
  });
  return found;
}

const listed = new Set(targets(remark().parse(await readFile(summary, "utf8")), summary).map(({ path }) => path));

function staysInTheBook() {
  return (tree, file) => {
    const path = resolve(root, file.path);
    if (!path.startsWith(book)) return;
    if (path !== summary && !listed.has(path)) file.message("the page is not in SUMMARY.md");
    for (const target of targets(tree, path))
      if (!target.path.startsWith(book)) file.message("a link out of the book: name the file instead", target.node);
  };
}

const files = (await pages(root)).map((path) => relative(root, path));
engine(
  {
    processor: remark(),
    cwd: root,
    files,
    plugins: [[validateLinks, { repository: false }], staysInTheBook],
    rcName: null,
    packageField: null,
    detectConfig: false,
    detectIgnore: false,
    color: false,
    frail: true,
    quiet: true,
    output: false,
    out: false,
  },
  (error, code) => {
    if (error) throw error;
    if (code === 0) console.log(`the links of ${files.length} pages lead somewhere`);
    process.exit(code);
  },
);
