// Kubernetes objects against the newest API models at hand:
//
//   node check_manifests.mjs NODE_MODULES <OBJECTS.json
//
// Standard input is a JSON array of objects; standard output an array of what
// is wrong with them, as {object, path, problem}. Checked are
// - unknown fields, wrong types and missing fields, by the models of
//   @kubernetes/client-node, and of the Prometheus Operator for its kinds;
// - the Pod Security Standard `restricted`, by @monokle/validation.
import fs from 'node:fs';
import path from 'node:path';
import {pathToFileURL} from 'node:url';

const modules = path.resolve(process.argv[2]);
const load = (file) => import(pathToFileURL(path.join(modules, file)).href);

const MODELS = '@kubernetes/client-node/dist/gen/models';
const models = await load(MODELS + '/all.js');

/** "apps/v1", "Deployment" -> V1Deployment, the model's class name. */
function modelName(object) {
  const version = object.apiVersion.split('/').pop();
  return version[0].toUpperCase() + version.slice(1) + object.kind;
}

/** The fields of a model that have to be there, which only its types tell. */
function requiredFields(model) {
  const types = path.join(modules, MODELS, model + '.d.ts');
  return [...fs.readFileSync(types, 'utf8').matchAll(/^    '(.+)': /gm)]
      .map((match) => match[1]);
}

const PRIMITIVES = {
  'string': (value) => typeof value === 'string',
  'number': (value) => typeof value === 'number',
  'boolean': (value) => typeof value === 'boolean',
  'IntOrString': (value) => ['number', 'string'].includes(typeof value),
  'any': () => true,
  'object': (value) => typeof value === 'object',
};

/** Calls tell(path, problem) for all that keeps `value` from being a `type`. */
function checkType(value, type, where, tell) {
  const list = type.match(/^Array<(.*)>$/);
  const map = type.match(/^\{ \[key: string\]: (.*); \}$/);
  if (list) {
    if (!Array.isArray(value)) return tell(where, 'wants a list');
    value.forEach((each, i) => checkType(
        each, list[1], `${where}[${i}]`, tell));
  } else if (typeof value === 'object' && Array.isArray(value)) {
    tell(where, 'wants no list');
  } else if (map) {
    if (typeof value !== 'object') return tell(where, 'wants a map');
    for (const key in value) {
      checkType(value[key], map[1], `${where}.${key}`, tell);
    }
  } else if (type in PRIMITIVES) {
    if (!PRIMITIVES[type](value)) tell(where, `wants a ${type}`);
  } else if (!(type in models)) {
    tell(where, `has the type ${type}, which the models do not know`);
  } else {
    checkModel(value, type, where, tell);
  }
}

function checkModel(value, type, where, tell) {
  if (value === null || typeof value !== 'object') {
    return tell(where, `wants a ${type}`);
  }
  const fields = new Map(models[type].getAttributeTypeMap().map(
      (field) => [field.baseName, field.type]));
  for (const name in value) {
    if (fields.has(name)) {
      checkType(value[name], fields.get(name), `${where}.${name}`, tell);
    } else {
      tell(`${where}.${name}`, 'unknown field');
    }
  }
  for (const name of requiredFields(type)) {
    if (!(name in value)) tell(`${where}.${name}`, 'missing');
  }
}

const OPERATOR = '@kubernetes-models/prometheus-operator';

/**
 * Tells the fields that an operator's kind does not have. Its schemas let them
 * pass, so they are looked up in the declarations, file by file.
 */
function checkOperatorFields(value, file, where, tell) {
  if (Array.isArray(value)) {
    return value.forEach((each, i) => checkOperatorFields(
        each, file, `${where}[${i}]`, tell));
  }
  const text = fs.readFileSync(file, 'utf8');
  const body = text.match(/^export declare class [^{]*\{\n([^]*?)^\}/m);
  if (!body) return;  // A plain type, which the schema checks.
  const fields = new Map([...body[1].matchAll(/^    "(.+?)"\??: (.*)$/gm)].map(
      (match) => [match[1], match[2]]));
  for (const name in value) {
    if (!fields.has(name)) {
      tell(`${where}.${name}`, 'unknown field');
      continue;
    }
    const type = fields.get(name).match(/\bI(Com\w+)/);
    const source = type && text.match(
        new RegExp(`\\bI${type[1]}\\b.* from "\\./(\\w+)\\.js"`));
    if (source) {
      checkOperatorFields(value[name],
          path.join(path.dirname(file), source[1] + '.d.ts'),
          `${where}.${name}`, tell);
    }
  }
}

/** One of the Prometheus Operator's objects, by its own schema. */
async function checkOperated(object, tell) {
  const [group, version] = object.apiVersion.split('/');
  const file = path.join(OPERATOR, group, version, object.kind);
  const {[object.kind]: Model} = await load(file + '.js');
  try {
    new Model(object).validate();
  } catch (error) {
    tell('', error.message);
  }
  checkOperatorFields(object, path.join(modules, file + '.d.ts'), '', tell);
}

/** Failures of `restricted`, over all objects. */
async function podSecurity(objects) {
  const {createDefaultMonokleValidator} =
      await load('@monokle/validation/lib/node.js');
  const validator = createDefaultMonokleValidator();
  // Those of `baseline` are on, those of `restricted` are not unless named.
  const restricted = ['volume-types', 'privilege-escalation',
    'running-as-non-root', 'running-as-non-root-user', 'seccomp-strict',
    'capabilities-strict'];
  await validator.preload({
    plugins: {'pod-security-standards': true},
    rules: Object.fromEntries(restricted.map(
        (rule) => ['pod-security-standards/' + rule, 'err'])),
  });
  const resources = objects.map((object, i) => ({
    id: String(i), name: object.metadata.name, apiVersion: object.apiVersion,
    kind: object.kind, content: object, fileId: String(i),
    filePath: String(i), fileOffset: 0, text: JSON.stringify(object),
  }));
  const {runs} = await validator.validate({resources});
  return runs.flatMap((run) => run.results.map((result) => ({
    object: objects[Number(result.locations.at(-1).physicalLocation
        .artifactLocation.uri)].kind,
    path: result.ruleId,
    problem: result.message.text,
  })));
}

const objects = JSON.parse(fs.readFileSync(0, 'utf8'));
const problems = [];
for (const object of objects) {
  const tell = (where, problem) =>
      problems.push({object: object.kind, path: where.slice(1), problem});
  if (object.apiVersion.startsWith('monitoring.coreos.com/')) {
    await checkOperated(object, tell);
  } else {
    checkType(object, modelName(object), '', tell);
  }
}
problems.push(...await podSecurity(objects));
console.log(JSON.stringify(problems));
