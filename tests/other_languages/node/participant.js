// A participant of sagas in Node.js: saga.v1.ParticipantService over the barrier, and the process around it.
//
//     node participant.js --listen 127.0.0.1:0 --database loyalty.db --protos ../../../protos \
//                         --descriptors loyalty.binpb [--hold-answers FILE]
//
// It prints `listening on HOST:PORT` once calls are taken, and drains on SIGTERM. While FILE exists, a call is carried
// out and committed but its answer is held back: the moment at which a test kills the process.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const grpc = require('@grpc/grpc-js');
const { DatabaseSync } = require('@photostructure/sqlite');
const { Barrier } = require('./barrier');
const { CallError, Contract, typeNameOf } = require('./contract');
const { actions } = require('./loyalty');

const NAME = 'loyalty';
const KEY_RETENTION_S = 400 * 24 * 60 * 60; // nothing is ever deleted here; a year and more is what is promised
const MESSAGE_BYTES_MAX = 4 << 20;
const BUSY_WAIT_MS = 2000; // for another process that has the database
const DRAIN_MS = 10_000;
const HELD_ANSWER_POLL_MS = 5;

const REQUEST_TYPES = {
  execute: 'saga.v1.ExecuteRequest',
  compensate: 'saga.v1.CompensateRequest',
  confirm: 'saga.v1.ConfirmRequest',
};

class ParticipantService {
  constructor(contract, barrier, holdAnswers) {
    this._contract = contract;
    this._barrier = barrier;
    this._holdAnswers = holdAnswers;
    this._actions = new Map(actions.map((action) => [action.name, action]));
    this._description = describe(contract);
  }

  /** What grpc-js is given. Exchange is optional, and left out: grpc-js answers UNIMPLEMENTED. */
  get handlers() {
    return {
      Execute: this._handler('execute'),
      Compensate: this._handler('compensate'),
      Confirm: this._handler('confirm'),
      Describe: (_call, respond) => respond(null, this._description),
    };
  }

  _handler(operation) {
    return (call, respond) => {
      try {
        const reply = this._barrier.answer(this._read(operation, call.request));
        this._whenLetGo(() => respond(null, reply));
      } catch (error) {
        respond(this._contract.failure(error instanceof CallError ? error : unknownOutcome(error)));
      }
    };
  }

  /** From a request's bytes to a call, every check of its form included. Throws CallError. */
  _read(operation, bytes) {
    const request = decoded(this._contract, REQUEST_TYPES[operation], bytes, 'the request');
    const { context, input } = request;
    if (!context?.saga_uid || !context.step || !context.idempotency_key || context.attempt < 1) {
      throw invalid('context: saga_uid, step, idempotency_key and attempt are required');
    }
    const action = this._action(operation, context.action);
    if (!input || typeNameOf(input) !== action.inputType) throw invalid(`input: required, a ${action.inputType}`);
    const message = decoded(this._contract, action.inputType, input.value, 'input');
    return { operation, context, action, input: { type: action.inputType, bytes: input.value, message } };
  }

  _action(operation, name) {
    const action = this._actions.get(name);
    if (action === undefined) throw unimplemented('UNKNOWN_ACTION', 'there is no such action');
    if (action[operation] === undefined) throw unimplemented('NOT_RESERVABLE', `${name} has no Confirm`);
    return action;
  }

  _whenLetGo(respond) {
    if (this._holdAnswers === undefined || !fs.existsSync(this._holdAnswers)) return respond();
    return setTimeout(() => this._whenLetGo(respond), HELD_ANSWER_POLL_MS);
  }
}

function describe(contract) {
  return contract.encode('saga.v1.DescribeResponse', {
    participant: NAME,
    version: require('./package.json').version,
    actions: actions.map((action) => ({
      name: action.name,
      description: action.description,
      input_type: action.inputType,
      output_type: action.outputType,
      kinds: action.kinds,
      rejection_reasons: action.rejections,
    })),
    descriptors: contract.descriptors,
    key_retention: { seconds: KEY_RETENTION_S },
    barriered: true,
  });
}

function decoded(contract, typeName, bytes, what) {
  try {
    return contract.decode(typeName, bytes);
  } catch {
    throw invalid(`${what} does not decode as ${typeName}`);
  }
}

function invalid(message) {
  return new CallError(grpc.status.INVALID_ARGUMENT, 'INVALID_REQUEST', message);
}

function unimplemented(reason, message) {
  return new CallError(grpc.status.UNIMPLEMENTED, reason, message);
}

/** What was thrown goes to the log and never travels; nothing is said of the outcome, so the coordinator asks again. */
function unknownOutcome(error) {
  console.error(error);
  return new CallError(grpc.status.INTERNAL, 'HANDLER_FAILED', "the action failed; the participant's log says why");
}

/** A database that keeps what it has committed through a power cut, as the promises of this participant need. */
function open(file) {
  const database = new DatabaseSync(file);
  database.exec(`PRAGMA busy_timeout = ${BUSY_WAIT_MS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL`);
  for (const schema of ['barrier.sql', 'loyalty.sql']) {
    database.exec(fs.readFileSync(path.join(__dirname, schema), 'utf8'));
  }
  return database;
}

function drain(server, database) {
  const forced = setTimeout(() => server.forceShutdown(), DRAIN_MS);
  server.tryShutdown(() => {
    clearTimeout(forced);
    database.close();
    console.log('drained');
    process.exit();
  });
}

function main() {
  const { values: options } = parseArgs({
    options: {
      listen: { type: 'string' },
      database: { type: 'string' },
      protos: { type: 'string' },
      descriptors: { type: 'string' },
      'hold-answers': { type: 'string' },
    },
  });
  const contract = new Contract(options.protos, options.descriptors);
  const database = open(options.database);
  const service = new ParticipantService(contract, new Barrier(database, contract), options['hold-answers']);
  const server = new grpc.Server({
    'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
    'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
  });
  server.addService(contract.service, service.handlers);
  server.bindAsync(options.listen, grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    console.log(`listening on ${options.listen.replace(/\d+$/, port)}`);
  });
  process.once('SIGTERM', () => drain(server, database));
}

main();
