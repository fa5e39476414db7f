// The barrier: each effect happens once, whatever is repeated, lost, late or killed.
//
// One row for each step of each saga, in the participant's own database, in the same transaction as the business
// change: after a crash either both are there or neither. Calls never overlap: the database is used synchronously, by
// a process that has one thread, and BEGIN IMMEDIATE keeps any other process out.
//
// A row stands in one of these states; `RULES` is the whole table of what follows for a call that meets it:
//
//     COMPLETED    Execute took effect
//     REJECTED     Execute was refused, with a promise that covers attempts up to the stored one
//     CONFIRMED    Confirm took effect
//     COMPENSATED  Compensate took effect
//     BARRED       Compensate came and found nothing; a late Execute finds this row and is refused
//
// This module must not know an action.
'use strict';

const { isDeepStrictEqual } = require('node:util');
const grpc = require('@grpc/grpc-js');
const { CallError } = require('./contract');

/** Thrown by an action's `execute`: it is refused, and nothing of it is kept. */
class Rejected extends Error {
  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }
}

const RULES = {
  execute: {
    none: execute,
    COMPLETED: replay,
    REJECTED: executeAgain,
    CONFIRMED: replay,
    COMPENSATED: refuseBarred,
    BARRED: refuseBarred,
  },
  compensate: {
    none: bar,
    COMPLETED: compensate,
    REJECTED: bar,
    CONFIRMED: refuseConfirmed,
    COMPENSATED: replay,
    BARRED: replay,
  },
  confirm: {
    none: refuseUnexecuted,
    COMPLETED: confirm,
    REJECTED: refuseUnexecuted,
    CONFIRMED: replay,
    COMPENSATED: refuseBarred,
    BARRED: refuseBarred,
  },
};

const RESPONSE_TYPES = {
  execute: 'saga.v1.ExecuteResponse',
  compensate: 'saga.v1.CompensateResponse',
  confirm: 'saga.v1.ConfirmResponse',
};

const SELECT = 'SELECT * FROM barrier WHERE saga_uid = ? AND step = ?';
const SAVE = `
  INSERT OR REPLACE INTO barrier (saga_uid, step, action, input_type, input, state,
                                  execute_reply, execute_attempt, compensate_reply, confirm_reply)
  VALUES (:saga_uid, :step, :action, :input_type, :input, :state,
          :execute_reply, :execute_attempt, :compensate_reply, :confirm_reply)`;

class Barrier {
  constructor(database, contract) {
    this.database = database;
    this.contract = contract;
    this._select = database.prepare(SELECT);
    this._save = database.prepare(SAVE);
  }

  /**
   * Answers a call, from the step's row or by running the action; returns the reply's bytes, once they are on disk.
   *
   * A call has `operation`, `context`, `action`, and `input`: `type`, `bytes` and the decoded `message`.
   * Throws CallError KEY_REUSED, and whatever the action or the database throws; nothing is kept then.
   */
  answer(call) {
    this.database.exec('BEGIN IMMEDIATE');
    try {
      const reply = this._answer(call);
      this.database.exec('COMMIT');
      return reply;
    } catch (error) {
      if (this.database.isTransaction) this.database.exec('ROLLBACK');
      throw error;
    }
  }

  _answer(call) {
    const row = this._select.get(call.context.saga_uid, call.context.step);
    if (row !== undefined && !this._isSameRequest(row, call)) {
      throw new CallError(
        grpc.status.FAILED_PRECONDITION,
        'KEY_REUSED',
        'this step of this saga was called before with another action, input type or input',
      );
    }
    return RULES[call.operation][row === undefined ? 'none' : row.state](this, row ?? newRow(call), call);
  }

  /** Compared decoded: the order in which fields are encoded does not make another request. */
  _isSameRequest(row, call) {
    if (row.action !== call.action.name || row.input_type !== call.input.type) return false;
    const before = this.contract.decode(row.input_type, row.input);
    return isDeepStrictEqual(before, call.input.message);
  }

  reply(call, outcome) {
    return this.contract.encode(RESPONSE_TYPES[call.operation], outcome);
  }

  save(row, changes) {
    this._save.run({ ...row, ...changes });
  }

  /** What Execute returned, from its stored reply. */
  outputOf(row, call) {
    const { completed } = this.contract.decode(RESPONSE_TYPES.execute, row.execute_reply);
    return this.contract.decode(call.action.outputType, completed.output.value);
  }
}

function newRow(call) {
  return {
    saga_uid: call.context.saga_uid,
    step: call.context.step,
    action: call.action.name,
    input_type: call.input.type,
    input: call.input.bytes,
    execute_reply: null,
    execute_attempt: null,
    compensate_reply: null,
    confirm_reply: null,
  };
}

// The rules. Each gets the barrier, the step's row (a new one where there is none yet) and the call, and returns the
// reply's bytes.

function execute(barrier, row, call) {
  const { database, contract } = barrier;
  let state = 'COMPLETED';
  let outcome;
  database.exec('SAVEPOINT action');
  try {
    const output = call.action.execute(database, call.input.message, call.context);
    outcome = { completed: { output: contract.pack(call.action.outputType, output) } };
  } catch (error) {
    if (!(error instanceof Rejected)) throw error;
    database.exec('ROLLBACK TO action');
    state = 'REJECTED';
    outcome = { rejected: { reason: error.reason, message: error.message } };
  }
  database.exec('RELEASE action');
  const reply = barrier.reply(call, outcome);
  barrier.save(row, { state, execute_reply: reply, execute_attempt: call.context.attempt });
  return reply;
}

function executeAgain(barrier, row, call) {
  return call.context.attempt <= row.execute_attempt ? replay(barrier, row, call) : execute(barrier, row, call);
}

function compensate(barrier, row, call) {
  call.action.compensate(barrier.database, call.input.message, barrier.outputOf(row, call), call.context);
  const reply = barrier.reply(call, { compensated: {} });
  barrier.save(row, { state: 'COMPENSATED', compensate_reply: reply });
  return reply;
}

function confirm(barrier, row, call) {
  call.action.confirm(barrier.database, call.input.message, barrier.outputOf(row, call), call.context);
  const reply = barrier.reply(call, { confirmed: {} });
  barrier.save(row, { state: 'CONFIRMED', confirm_reply: reply });
  return reply;
}

function bar(barrier, row, call) {
  const reply = barrier.reply(call, { compensated: { noop: true } });
  barrier.save(row, { state: 'BARRED', compensate_reply: reply });
  return reply;
}

function replay(_barrier, row, call) {
  return Buffer.from(row[`${call.operation}_reply`]);
}

function refuseBarred(barrier, _row, call) {
  return refuse(barrier, call, 'BARRED', 'the step has been compensated');
}

function refuseConfirmed(barrier, _row, call) {
  return refuse(barrier, call, 'CONFIRMED', 'the hold has been made final');
}

function refuseUnexecuted(barrier, _row, call) {
  return refuse(barrier, call, 'NOT_EXECUTED', 'there is no hold of this step');
}

function refuse(barrier, call, reason, message) {
  return barrier.reply(call, { rejected: { reason, message } });
}

module.exports = { Barrier, Rejected };
