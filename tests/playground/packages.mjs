// The packages of package.json. They are in the working folder (target/clients/playground), not beside this file.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.cwd()}/`));

export const pathOf = (name) => require.resolve(name);
export const load = (name) => import(pathToFileURL(pathOf(name)));
