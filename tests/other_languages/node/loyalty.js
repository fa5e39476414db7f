// The actions of the loyalty service. Each handler reads and writes in the barrier's own transaction, synchronously,
// so that its rows and the barrier's row commit together. int64 fields are decimal strings, and BigInt when reckoned.
'use strict';

const { Rejected } = require('./barrier');

const CENTS_A_POINT = 100n;

const REASONS = {
  UNKNOWN_CUSTOMER: 'There is no such customer.',
  CUSTOMER_SUSPENDED: 'The customer takes no part in the programme at present.',
  INVALID_AMOUNT: 'The number of points or cents is out of range.',
  NOT_ENOUGH_POINTS: 'The customer has fewer points than that.',
};

const holdPoints = {
  name: 'HoldPoints',
  description: 'Sets points of a customer aside for a gift.',
  kinds: ['STEP_KIND_RESERVABLE'],
  inputType: 'loyalty.v1.HoldPointsRequest',
  outputType: 'loyalty.v1.PointsHeld',
  rejections: pick('UNKNOWN_CUSTOMER', 'INVALID_AMOUNT', 'NOT_ENOUGH_POINTS'),

  execute(database, request, context) {
    const points = BigInt(request.points);
    if (points < 1n) throw rejected('INVALID_AMOUNT');
    const customer = find(database, request.customer_id);
    if (customer.points < points) throw rejected('NOT_ENOUGH_POINTS');
    move(database, context, 'HELD', request.customer_id, points, { usable: -points, held: points });
    return { points_left: String(customer.points - points) };
  },

  compensate(database, request, _output, context) {
    const points = BigInt(request.points);
    move(database, context, 'RELEASED', request.customer_id, points, { usable: points, held: -points });
  },

  confirm(database, request, _output, context) {
    const points = BigInt(request.points);
    move(database, context, 'SPENT', request.customer_id, points, { usable: 0n, held: -points });
  },
};

const grantPoints = {
  name: 'GrantPoints',
  description: 'Gives a customer one point for each whole euro paid.',
  kinds: ['STEP_KIND_COMPENSATABLE'],
  inputType: 'loyalty.v1.GrantPointsRequest',
  outputType: 'loyalty.v1.PointsGranted',
  rejections: pick('UNKNOWN_CUSTOMER', 'CUSTOMER_SUSPENDED', 'INVALID_AMOUNT'),

  execute(database, request, context) {
    const cents = BigInt(request.amount_cents);
    if (cents < 0n) throw rejected('INVALID_AMOUNT');
    const points = cents / CENTS_A_POINT;
    // Written before it is known whether they may be given: a rejection takes the rows back.
    const customer = find(database, request.customer_id);
    move(database, context, 'GRANTED', request.customer_id, points, { usable: points, held: 0n });
    if (customer.suspended) throw rejected('CUSTOMER_SUSPENDED');
    return { points: String(points) };
  },

  // The customer may have used the points by now: the account then goes below zero, and the next grants fill it up.
  compensate(database, request, output, context) {
    const points = BigInt(output.points);
    move(database, context, 'TAKEN_BACK', request.customer_id, points, { usable: -points, held: 0n });
  },
};

function find(database, customerId) {
  const select = database.prepare('SELECT points, suspended FROM customers WHERE customer_id = ?');
  select.setReadBigInts(true);
  const customer = select.get(customerId);
  if (customer === undefined) throw rejected('UNKNOWN_CUSTOMER');
  return customer;
}

function move(database, context, kind, customerId, points, { usable, held }) {
  database
    .prepare('UPDATE customers SET points = points + ?, held = held + ? WHERE customer_id = ?')
    .run(usable, held, customerId);
  database
    .prepare('INSERT INTO movements (saga_id, saga_uid, step, kind, customer_id, points) VALUES (?, ?, ?, ?, ?, ?)')
    .run(context.saga_id, context.saga_uid, context.step, kind, customerId, points);
}

function rejected(reason) {
  return new Rejected(reason, REASONS[reason]);
}

function pick(...reasons) {
  return reasons.map((reason) => ({ reason, description: REASONS[reason] }));
}

module.exports = { actions: [holdPoints, grantPoints] };
