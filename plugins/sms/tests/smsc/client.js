// Sends messages with the npm package's own client, for comparison:
// node client.js PORT PASSWORD COUNT WINDOW
// Prints how long it took from the first message to the last answer, in seconds.
'use strict';

const smpp = require('smpp');

const [port, password, count, window] = process.argv.slice(2);
const session = smpp.connect({ host: '127.0.0.1', port: Number(port) });
session.on('error', (error) => {
  console.error(error.message);
  process.exit(1);
});

session.bind_transceiver({ system_id: 'client', password }, (bound) => {
  if (bound.command_status !== smpp.ESME_ROK) throw new Error(`bind: ${bound.command_status}`);
  const begun = process.hrtime.bigint();
  let sent = 0;
  let answered = 0;
  const next = () => {
    if (sent === Number(count)) return;
    sent += 1;
    session.submit_sm(
      {
        source_addr: 'Stadtwerk',
        source_addr_ton: 5,
        destination_addr: `491711${String(sent % 100000).padStart(5, '0')}01`,
        dest_addr_ton: 1,
        dest_addr_npi: 1,
        short_message: 'Ihr Angebot liegt bereit.',
      },
      (answer) => {
        if (answer.command_status !== smpp.ESME_ROK) throw new Error(`submit: ${answer.command_status}`);
        answered += 1;
        if (answered === Number(count)) {
          console.log(Number(process.hrtime.bigint() - begun) / 1e9);
          process.exit(0);
        }
        next();
      },
    );
  };
  for (let i = 0; i < Number(window); i += 1) next();
});
