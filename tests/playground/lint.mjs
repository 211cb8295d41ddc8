// Checks the playground, its tests and the check of links with eslint and prettier. A warning is a failure.
//
//     cd target/clients/playground && node ../../../tests/playground/lint.mjs [--fix]

import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { load } from "./packages.mjs";

const { ESLint } = await load("eslint");
const { default: js } = await load("@eslint/js");
const { default: globals } = await load("globals");
const { default: prettier } = await load("prettier");

const fix = process.argv.includes("--fix");
const root = fileURLToPath(new URL("../../", import.meta.url));
const folders = ["plugin/playground", "tests/playground", "tests/docs"];

const rules = {
  ...js.configs.recommended.rules,
  eqeqeq: "error",
  "no-implicit-globals": "error",
  "no-restricted-properties": [
    "error",
    { property: "innerHTML", message: "Text goes in as text." },
    { property: "outerHTML", message: "Text goes in as text." },
    { property: "insertAdjacentHTML", message: "Text goes in as text." },
  ],
  "no-shadow": "off",
  "no-var": "error",
  "object-shorthand": "error",
  "prefer-const": "error",
};

const eslint = new ESLint({
  cwd: root,
  fix,
  overrideConfigFile: true,
  overrideConfig: [
    { linterOptions: { reportUnusedDisableDirectives: "error" }, rules },
    {
      files: ["plugin/playground/*.js"],
      languageOptions: { sourceType: "module", globals: globals.browser },
    },
    {
      files: ["tests/playground/*.mjs", "tests/docs/*.mjs"],
      languageOptions: { globals: { ...globals.node, ...globals.browser } },
    },
  ],
});

const results = await eslint.lintFiles(["plugin/playground/*.js", "tests/playground/*.mjs", "tests/docs/*.mjs"]);
if (fix) await ESLint.outputFixes(results);
let failed = results.some(({ errorCount, warningCount }) => errorCount + warningCount > 0);
const formatter = await eslint.loadFormatter("stylish");
process.stdout.write(await formatter.format(results));

for (const folder of folders) {
  for (const name of await readdir(join(root, folder))) {
    if (!/\.(js|mjs|css|html)$/.test(name)) continue;
    const path = join(root, folder, name);
    const text = await readFile(path, "utf8");
    const options = { filepath: path, printWidth: 120 };
    if (fix) await writeFile(path, await prettier.format(text, options));
    else if (!(await prettier.check(text, options))) {
      console.log(`${folder}/${name} is not formatted: run lint.mjs --fix`);
      failed = true;
    }
  }
}
process.exit(failed ? 1 : 0);
