// A short message centre for tests, over the npm package smpp: takes messages by SMPP 3.4, sends
// receipts and messages, and misbehaves as the last two digits of the recipient say:
//
//   00  too fast the first time, then taken     55  the connection ends before the answer
//   11  refused: no such recipient              66  no answer
//   22  its second segment: too fast once       77  its second segment is refused
//   33  answered after 300 ms                   88  too fast, always
//   44  the connection ends after the answer    99  taken, and reported as undeliverable
//
// A text that begins with ECHO comes back as a message of the recipient; LONG in several segments,
// LONELY the first of two segments alone, UNICODE in UCS-2, LATIN in ISO 8859-1, STOP as that word.
//
// Receipts and messages that have not been answered with ESME_ROK are sent again after a refusal and
// to the next session. What happens is told on the standard output, a JSON object on each line.
//
// node smsc.js '{"password": "s3cret", "receipts": "both"}'
//   password   of any system id
//   receipts   "both" ways to say it, by "text", by "parameters", or "hexadecimal": ids hexadecimal
//              in answers and decimal in receipts
//   greeting   false: takes connections and never answers a bind
//   quiet      true: tells nothing after its port
'use strict';

const smpp = require('smpp');

const options = Object.assign(
  { password: 's3cret', receipts: 'both', greeting: true, quiet: false },
  JSON.parse(process.argv[2] || '{}'),
);
const SLOW = 300;
const LATER = 20;
const AGAIN = 100;

const tell = (event, fields) => {
  if (options.quiet && event !== 'listening') return;
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
};

let lastId = 4095;
let outstanding = 0;
const seen = new Map();
// What has to reach the other side, in order; `session` is the one that it is on its way through.
const deliveries = new Set();
let receiver = null;

function deliver(pdu) {
  const delivery = { pdu, session: null };
  deliveries.add(delivery);
  push(delivery);
}

function push(delivery) {
  if (!receiver || delivery.session === receiver || !deliveries.has(delivery)) return;
  const session = receiver;
  delivery.session = session;
  session.deliver_sm({ ...delivery.pdu }, (answer) => {
    tell('delivered', { status: answer.command_status, receipt: delivery.pdu.esm_class === 4 });
    if (answer.command_status === smpp.ESME_ROK) {
      deliveries.delete(delivery);
    } else {
      delivery.session = null;
      setTimeout(() => push(delivery), AGAIN);
    }
  });
}

function receipt(submit, number, failed) {
  const at = new Date().toISOString().replace(/\D/g, '').slice(2, 12);
  const state = failed ? 'UNDELIV' : 'DELIVRD';
  const id = options.receipts === 'hexadecimal' ? String(number) : idOf(number);
  const pdu = {
    source_addr: submit.destination_addr,
    source_addr_ton: submit.dest_addr_ton,
    destination_addr: submit.source_addr,
    dest_addr_ton: submit.source_addr_ton,
    esm_class: 4,
    short_message: '',
  };
  if (options.receipts !== 'parameters') {
    const counts = `sub:001 dlvrd:00${failed ? 0 : 1}`;
    const error = failed ? '011' : '000';
    pdu.short_message = `id:${id} ${counts} submit date:${at} done date:${at} stat:${state} err:${error} text:`;
  }
  if (options.receipts === 'both' || options.receipts === 'parameters') {
    pdu.receipted_message_id = id;
    pdu.message_state = failed ? 5 : 2;
  }
  deliver(pdu);
}

const idOf = (number) =>
  options.receipts === 'hexadecimal' ? number.toString(16).toUpperCase() : `m-${number}`;

function echo(submit, text) {
  const back = {
    source_addr: submit.destination_addr,
    source_addr_ton: 1,
    source_addr_npi: 1,
    destination_addr: submit.source_addr,
    dest_addr_ton: submit.source_addr_ton,
  };
  const segment = (total, number, message) => {
    const udh = Buffer.from([5, 0, 3, 77, total, number]);
    deliver({ ...back, esm_class: 0x40, data_coding: 0, short_message: Buffer.concat([udh, Buffer.from(message)]) });
  };
  if (text.startsWith('ECHO LONG')) {
    segment(3, 2, 'zweiter, ');
    segment(3, 1, 'Erster, ');
    segment(3, 3, 'dritter Teil');
  } else if (text.startsWith('ECHO LONELY')) {
    segment(2, 1, 'Allein');
  } else if (text.startsWith('ECHO UNICODE')) {
    const message = Buffer.from('Спасибо 🎉', 'utf16le').swap16();
    deliver({ ...back, data_coding: 8, short_message: message });
  } else if (text.startsWith('ECHO STOP')) {
    deliver({ ...back, data_coding: 0, short_message: Buffer.from('Stop!') });
  } else if (text.startsWith('ECHO LATIN')) {
    deliver({ ...back, data_coding: 3, short_message: Buffer.from('Grüße', 'latin1') });
  } else {
    // Ja, bitte: [ä€] in the GSM alphabet.
    const message = Buffer.from([0x4a, 0x61, 0x1b, 0x3c, 0x7b, 0x1b, 0x65, 0x1b, 0x3e]);
    deliver({ ...back, data_coding: 0, short_message: message });
  }
}

function content(pdu) {
  const message = pdu.short_message || {};
  const payload = pdu.message_payload;
  const body = payload === undefined ? message : payload;
  const text = body.message === undefined ? body : body.message;
  const udh = message.udh ? Buffer.concat([].concat(message.udh).map((one) => Buffer.from(one))) : null;
  return {
    text: Buffer.isBuffer(text) ? text.toString('latin1') : String(text),
    udh: udh && udh.toString('hex'),
    payload: payload !== undefined,
  };
}

function submitted(session, pdu) {
  const to = pdu.destination_addr;
  const behaviour = to.slice(-2);
  const { text, udh, payload } = content(pdu);
  const number = udh ? parseInt(udh.slice(-2), 16) : pdu.sar_segment_seqnum || 1;
  outstanding += 1;
  tell('submit', {
    from: pdu.source_addr, from_ton: pdu.source_addr_ton, from_npi: pdu.source_addr_npi,
    to, to_ton: pdu.dest_addr_ton, to_npi: pdu.dest_addr_npi,
    esm_class: pdu.esm_class, data_coding: pdu.data_coding, registered: pdu.registered_delivery,
    validity: Boolean(pdu.validity_period), reference: pdu.sar_msg_ref_num, total: pdu.sar_total_segments,
    text, udh, payload, number, outstanding,
  });
  const answer = (fields) => {
    outstanding -= 1;
    session.send(pdu.response(fields));
  };
  const refuse = (status) => answer({ command_status: status });
  const first = () => {
    const key = `${to} ${number}`;
    const times = (seen.get(key) || 0) + 1;
    seen.set(key, times);
    return times === 1;
  };
  if (behaviour === '11') return refuse(smpp.ESME_RINVDSTADR);
  if (behaviour === '88') return refuse(smpp.ESME_RTHROTTLED);
  if (behaviour === '00' && first()) return refuse(smpp.ESME_RTHROTTLED);
  if (behaviour === '22' && number === 2 && first()) return refuse(smpp.ESME_RMSGQFUL);
  if (behaviour === '77' && number === 2) return refuse(smpp.ESME_RSUBMITFAIL);
  if (behaviour === '66') return undefined;
  if (behaviour === '55') {
    outstanding -= 1;
    return session.destroy();
  }
  lastId += 1;
  const id = lastId;
  const take = () => {
    answer({ message_id: idOf(id) });
    if (behaviour === '44') setTimeout(() => session.destroy(), LATER);
    if (pdu.registered_delivery & 1) {
      setTimeout(() => receipt(pdu, id, behaviour === '99'), LATER);
    }
    if (text.startsWith('ECHO') && number === 1) setTimeout(() => echo(pdu, text), LATER);
  };
  return behaviour === '33' ? setTimeout(take, SLOW) : take();
}

const server = smpp.createServer({ debug: false }, (session) => {
  const gone = () => {
    if (receiver === session) receiver = null;
    for (const delivery of deliveries) {
      if (delivery.session === session) delivery.session = null;
    }
  };
  session.on('error', () => {});
  session.on('close', () => {
    tell('closed', {});
    gone();
  });
  for (const sort of ['bind_transceiver', 'bind_transmitter', 'bind_receiver']) {
    session.on(sort, (pdu) => {
      const accepted = pdu.password === options.password;
      tell('bind', { sort, system_id: pdu.system_id, system_type: pdu.system_type, accepted });
      if (!options.greeting) return;
      if (!accepted) {
        session.send(pdu.response({ command_status: smpp.ESME_RINVPASWD }));
        session.close();
        return;
      }
      session.send(pdu.response({ system_id: 'smsc' }));
      if (sort !== 'bind_transmitter') {
        receiver = session;
        deliveries.forEach(push);
      }
    });
  }
  session.on('submit_sm', (pdu) => submitted(session, pdu));
  session.on('enquire_link', (pdu) => {
    tell('enquire_link', {});
    session.send(pdu.response());
  });
  session.on('unbind', (pdu) => {
    tell('unbind', {});
    session.send(pdu.response());
    session.close();
  });
});

// Whoever started this holds its standard input open for as long as it is wanted.
// For each line that it writes there it is told when all before has been told.
process.stdin.on('end', () => process.exit(0));
process.stdin.on('data', (octets) => {
  for (const octet of octets) if (octet === 10) tell('synchronised', {});
});
server.listen(0, '127.0.0.1', () => tell('listening', { port: server.address().port }));
