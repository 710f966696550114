// node validate.mjs FILE: each object of the file against the API's current schema. Values are checked by the schema's
// validators; unknown fields, which those let pass, by the types: TypeScript refuses an object literal with a field too many.
import fs from 'node:fs';
import * as yaml from 'js-yaml';
import ts from 'typescript';

const [file] = process.argv.slice(2);
const objects = yaml.loadAll(fs.readFileSync(file, 'utf8')).filter(Boolean);

const moduleOf = ({ apiVersion, kind }) =>
  `${apiVersion.startsWith('monitoring.coreos.com/') ? '@kubernetes-models/prometheus-operator' : 'kubernetes-models'}/${apiVersion}/${kind}`;
const nameOf = ({ kind, metadata }) => `${kind}/${metadata?.name}`;
const fail = (line) => {
  console.log(line);
  process.exitCode = 1;
};

for (const object of objects) {
  const { [object.kind]: Model } = await import(moduleOf(object));
  try {
    new Model(object).validate();
    console.log(`valid ${nameOf(object)}`);
  } catch (error) {
    fail(`INVALID ${nameOf(object)}: ${error.message}`);
  }
}

const source = 'rendered.check.ts';
fs.writeFileSync(source, objects.map((object, i) =>
  `import type { I${object.kind} as T${i} } from '${moduleOf(object)}';\nexport const o${i}: T${i} = ${JSON.stringify(object, null, 1)};\n`).join(''));
const program = ts.createProgram([source], { noEmit: true, strict: true, skipLibCheck: true, types: [],
  target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext });
for (const diagnostic of ts.getPreEmitDiagnostics(program)) {
  fail(`INVALID: ${ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n')}`);
}
