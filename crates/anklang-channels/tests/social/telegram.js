// Runs the emulation of Telegram's Bot API on loopback until standard input ends. Prints its port.
const net = require('net');
const TelegramServer = require('telegram-test-api');

const free = net.createServer();
free.listen(0, '127.0.0.1', () => {
  const { port } = free.address();
  free.close(async () => {
    const server = new TelegramServer({ port, host: '127.0.0.1', storeTimeout: 3600 });
    await server.start();
    console.log(port);
  });
});
process.stdin.on('end', () => process.exit(0)).resume();
