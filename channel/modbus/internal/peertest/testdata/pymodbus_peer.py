"""pymodbus as a peer of the tests.

serve TCP RTUTCP TLS DEVICE [CERT KEY CA]
    serves the same units over all of them, prints one line of JSON with the
    ports and with what is to be read, and ends when its input ends. A port of
    0 takes a free one; DEVICE "-" leaves the serial line out, and without
    files there is no TLS.
use tcp|rtutcp|rtu|tls TARGET [CA CERT KEY]
    reads and writes a unit of our server and fails where something is not as
    it must be.
"""
import asyncio
import json
import struct
import sys

from pymodbus.client import ModbusSerialClient, ModbusTcpClient, ModbusTlsClient
from pymodbus.datastore import ModbusServerContext, ModbusSlaveContext, ModbusSparseDataBlock
from pymodbus.server.async_io import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer
from pymodbus.transaction import ModbusRtuFramer, ModbusSocketFramer

ORDERS = {"ABCD": [0, 1, 2, 3], "CDAB": [2, 3, 0, 1], "BADC": [1, 0, 3, 2], "DCBA": [3, 2, 1, 0]}
ORDERS_4 = {
    "ABCD": [0, 1, 2, 3, 4, 5, 6, 7], "CDAB": [6, 7, 4, 5, 2, 3, 0, 1],
    "BADC": [1, 0, 3, 2, 5, 4, 7, 6], "DCBA": [7, 6, 5, 4, 3, 2, 1, 0],
}


def words(data):
    return list(struct.unpack(">%dH" % (len(data) // 2), data))


class Unit:
    """The tables of a unit, and what our driver must read of them."""

    def __init__(self, unit):
        self.unit = unit
        self.tables = {"coil": {}, "discrete": {}, "holding": {}, "input": {}}
        self.points = []
        self.free = 0

    def expect(self, address, value=None, **more):
        self.points.append(dict(more, unit=self.unit, address=address, value=value))

    def numbers(self, table, kind, code, values, orders):
        for n, value in enumerate(values):
            for order, places in orders.items():
                data = struct.pack(">" + code, value)
                value = struct.unpack(">" + code, data)[0]
                data = bytes(data[p] for p in places)
                self.tables[table][self.free] = words(data)
                self.expect("%s:%d:%s:%s" % (table, self.free, kind, order), value)
                self.free += len(data) // 2 + n % 2  # some adjoin, some do not

    def fill(self):
        for table in ("holding", "input"):
            self.free = 1
            two = {"AB": [0, 1], "BA": [1, 0]}
            self.numbers(table, "int16", "h", [-1 - self.unit, 32767, -32768], two)
            self.numbers(table, "uint16", "H", [self.unit, 65535], two)
            self.numbers(table, "int32", "i", [-123456 - self.unit, 2**31 - 1], ORDERS)
            self.numbers(table, "uint32", "I", [0xDEADBEEF, 70000 + self.unit], ORDERS)
            self.numbers(table, "float32", "f", [3.14159 * self.unit, -1e-20], ORDERS)
            self.numbers(table, "int64", "q", [-(2**47) + self.unit], ORDERS_4)
            self.numbers(table, "uint64", "Q", [2**46 + 12345 + self.unit], ORDERS_4)
            self.numbers(table, "float64", "d", [-2.718281828459045 * self.unit], ORDERS_4)
            text = ("unit %d \u00fc" % self.unit).encode().ljust(16, b"\0")
            self.tables[table][1000] = words(text)
            self.expect("%s:1000:string8" % table, text="unit %d \u00fc" % self.unit)
            swapped = bytes(text[p ^ 1] for p in range(16))
            self.tables[table][1010] = words(swapped)
            self.expect("%s:1010:string8:BA" % table, text="unit %d \u00fc" % self.unit)
            self.tables[table][1020] = [0x1234, 0xA5C3, 0x9876, 0x5432]
            self.expect("%s:1020:bcd16" % table, 1234)
            self.expect("%s:1021:bit0" % table, 1)
            self.expect("%s:1021:bit3" % table, 0)
            self.expect("%s:1021:bits4-7" % table, 0xC)
            self.expect("%s:1021:int8hi" % table, -91)
            self.expect("%s:1021:uint8lo" % table, 0xC3)
            self.expect("%s:1022:bcd32" % table, 98765432)
            # Some addresses in between are missing, so that reads must be split.
            for at in (2000, 2001, 2003, 2006):
                self.tables[table][at] = [at + self.unit]
                self.expect("%s:%d" % (table, at), at + self.unit)
            for at in (2002, 2004, 2007):
                self.expect("%s:%d" % (table, at), missing=True)
            # As many registers as one request can bring, and the last that there are.
            self.tables[table][3000] = [(n * 7 + self.unit) & 0xFFFF for n in range(126)]
            for n in range(126):
                self.expect("%s:%d" % (table, 3000 + n), (n * 7 + self.unit) & 0xFFFF)
            self.tables[table][65532] = [1, 2, 3, 4]
            self.expect("%s:65535" % table, 4)
            self.expect("%s:65534:uint32" % table, 3 << 16 | 4)
        for table in ("coil", "discrete"):
            for base in (0, 65528):
                values = [(n + self.unit) % 3 == 0 for n in range(8 if base else 2001)]
                self.tables[table][base] = values
                for n in (0, 1, 2, 3, 5, 7, 8, 15, 16, 1999, 2000):
                    if n < len(values):
                        self.expect("%s:%d" % (table, base + n), int(values[n]))
            self.expect("%s:5000" % table, missing=True)
        self.tables["holding"][4000] = [0] * 100  # for writing
        self.tables["coil"][4000] = [False] * 100
        return self

    def context(self):
        t = {name: ModbusSparseDataBlock(values) for name, values in self.tables.items()}
        return ModbusSlaveContext(co=t["coil"], di=t["discrete"], hr=t["holding"], ir=t["input"], zero_mode=True)


async def serve(tcp, rtutcp, tls, device, cert=None, key=None, ca=None):
    units = [Unit(n).fill() for n in (1, 2, 247)]
    context = ModbusServerContext(slaves={u.unit: u.context() for u in units}, single=False)
    servers = {
        "tcp": ModbusTcpServer(context, address=("127.0.0.1", int(tcp)), allow_reuse_address=True),
        "rtutcp": ModbusTcpServer(
            context, framer=ModbusRtuFramer, address=("127.0.0.1", int(rtutcp)), allow_reuse_address=True,
            ignore_missing_slaves=True,
        ),
    }
    if cert:
        servers["tls"] = ModbusTlsServer(
            context, framer=ModbusSocketFramer, address=("127.0.0.1", int(tls)), certfile=cert, keyfile=key,
            reqclicert=True, allow_reuse_address=True,
        )
        servers["tls"].sslctx.load_verify_locations(ca)
    ready = {"points": [p for u in units for p in u.points]}
    running = []
    for name, server in servers.items():
        running.append(asyncio.create_task(server.serve_forever()))
        await server.serving
        ready[name] = server.server.sockets[0].getsockname()[1]
    if device != "-":
        line = ModbusSerialServer(context, port=device, baudrate=19200, parity="N", ignore_missing_slaves=True)
        await line.start()
    print(json.dumps(ready), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class TlsClient(ModbusTlsClient):
    """A client that waits for bytes on the connection, not on its socket: what
    TLS has already decrypted makes no socket ready, and pymodbus' own recv
    waits in vain for the second part of an answer."""

    def recv(self, size):
        self.socket.settimeout(10)
        data = b""
        while size is None or len(data) < size:
            part = self.socket.recv(4096 if size is None else size - len(data))
            data += part
            if size is None or not part:
                break
        return data


def use(transport, target, ca=None, cert=None, key=None):
    if transport == "rtu":
        client = ModbusSerialClient(target, baudrate=19200, parity="N", timeout=10, retries=0)
    else:
        host, port = target.rsplit(":", 1)
        if transport == "tls":
            import ssl

            context = ssl.create_default_context(cafile=ca)
            context.load_cert_chain(cert, key)
            client = TlsClient(
                host, int(port), framer=ModbusSocketFramer, sslctx=context, server_hostname="localhost", timeout=10,
            )
        else:
            framer = ModbusRtuFramer if transport == "rtutcp" else ModbusSocketFramer
            client = ModbusTcpClient(host, int(port), framer=framer, timeout=10, retries=0)
    assert client.connect(), "no connection"

    def registers(answer):
        assert not answer.isError(), answer
        return answer.registers

    def bits(answer, count):
        assert not answer.isError(), answer
        return answer.bits[:count]

    def same(got, want):
        assert got == want, (got, want)

    unit = 7
    for read, factor in ((client.read_holding_registers, 7), (client.read_input_registers, 11)):
        for start, count in ((0, 1), (0, 125), (75, 125), (199, 1), (65535, 1)):
            same(registers(read(start, count, slave=unit)), [(n * factor) & 0xFFFF for n in range(start, start + count)])
        answer = read(150, 125, slave=unit)
        same((answer.isError(), getattr(answer, "exception_code", None)), (True, 2))
    for read, step in ((client.read_coils, 3), (client.read_discrete_inputs, 5)):
        for start, count in ((0, 1), (0, 9), (0, 2000), (1999, 1)):
            same(bits(read(start, count, slave=unit), count), [n % step == 0 for n in range(start, start + count)])
        same(read(1999, 2, slave=unit).exception_code, 2)
    assert not client.write_coil(1000, True, slave=unit).isError()
    assert not client.write_coil(1002, False, slave=unit).isError()
    assert not client.write_coils(1010, [True, False, True, True, False, False, True, False, True], slave=unit).isError()
    same(bits(client.read_coils(1010, 9, slave=unit), 9), [True, False, True, True, False, False, True, False, True])
    assert not client.write_register(100, 0xBEEF, slave=unit).isError()
    assert not client.write_registers(101, words(struct.pack(">fd", 1.5, -2.25)), slave=unit).isError()
    same(registers(client.read_holding_registers(100, 1, slave=unit)), [0xBEEF])
    same(client.write_register(60000, 1, slave=unit).exception_code, 2)
    many = [n ^ 0x5555 for n in range(123)]
    assert not client.write_registers(0, many, slave=unit).isError()
    same(registers(client.read_holding_registers(0, 123, slave=unit)), many)
    assert not client.write_register(150, 0x0012, slave=unit).isError()
    assert not client.mask_write_register(address=150, and_mask=0x00F2, or_mask=0x0025, unit=unit).isError()
    same(registers(client.readwrite_registers(
        read_address=150, read_count=3, write_address=151, write_registers=[11, 22], unit=unit,
    )), [0x0017, 11, 22])
    client.close()
    print("ok")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(*sys.argv[2:]))
    else:
        use(*sys.argv[2:])
