/* libmodbus as a peer of the tests.
 *
 * serve tcp            serves unit 1 on a free port, prints "PORT" and ends
 *                      when it is killed
 * serve rtu DEVICE     serves unit 1 on a serial line and prints "0"
 * use tcp HOST PORT    reads and writes unit 7 of our server, and fails where
 * use rtu DEVICE       something is not as it must be
 *
 * A last argument "more" of use adds functions 22 and 23.
 */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

#define CHECK(what)                                                            \
	do {                                                                       \
		if (!(what)) {                                                         \
			fprintf(stderr, "line %d: %s: %s\n", __LINE__, #what,              \
			        modbus_strerror(errno));                                   \
			exit(1);                                                           \
		}                                                                      \
	} while (0)

static void serve(const char *device)
{
	/* Coils and registers 0 to 199; values as the test computes them, and a
	 * float in four orders. libmodbus 3.1.6 has functions for those, which swap
	 * the bytes of each register on little-endian machines. */
	modbus_mapping_t *map = modbus_mapping_new(200, 200, 200, 200);
	CHECK(map != NULL);
	for (int n = 0; n < 200; n++) {
		map->tab_bits[n] = n % 3 == 0;
		map->tab_input_bits[n] = n % 5 == 0;
		map->tab_registers[n] = n * 321;
		map->tab_input_registers[n] = n * 123;
	}
	uint32_t f;
	float value = 1234.5f;
	memcpy(&f, &value, 4);
	uint16_t *r = map->tab_registers + 100, hi = f >> 16, lo = f;
	r[0] = hi, r[1] = lo;                                           /* ABCD */
	r[2] = (uint16_t)(lo << 8 | lo >> 8), r[3] = (uint16_t)(hi << 8 | hi >> 8); /* DCBA */
	r[4] = (uint16_t)(hi << 8 | hi >> 8), r[5] = (uint16_t)(lo << 8 | lo >> 8); /* BADC */
	r[6] = lo, r[7] = hi;                                           /* CDAB */

	if (device != NULL) {
		modbus_t *ctx = modbus_new_rtu(device, 19200, 'N', 8, 1);
		CHECK(ctx != NULL);
		CHECK(modbus_set_slave(ctx, 1) == 0);
		CHECK(modbus_connect(ctx) == 0);
		printf("0\n");
		fflush(stdout);
		for (;;) {
			uint8_t query[MODBUS_RTU_MAX_ADU_LENGTH];
			int n = modbus_receive(ctx, query);
			if (n > 0)
				modbus_reply(ctx, query, n, map);
		}
	}
	modbus_t *ctx = modbus_new_tcp("127.0.0.1", 0);
	CHECK(ctx != NULL);
	int listener = modbus_tcp_listen(ctx, 4);
	CHECK(listener >= 0);
	struct sockaddr_in at;
	socklen_t size = sizeof at;
	CHECK(getsockname(listener, (struct sockaddr *)&at, &size) == 0);
	printf("%d\n", ntohs(at.sin_port));
	fflush(stdout);
	for (;;) { /* one connection at a time, as small devices do */
		CHECK(modbus_tcp_accept(ctx, &listener) >= 0);
		uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
		int n;
		while ((n = modbus_receive(ctx, query)) >= 0) {
			if (n > 0)
				modbus_reply(ctx, query, n, map);
		}
		modbus_close(ctx);
	}
}

static void use(modbus_t *ctx, int more)
{
	uint16_t r[MODBUS_MAX_READ_REGISTERS], w[MODBUS_MAX_WRITE_REGISTERS];
	uint8_t b[MODBUS_MAX_READ_BITS];
	CHECK(ctx != NULL);
	CHECK(modbus_set_slave(ctx, 7) == 0);
	CHECK(modbus_set_response_timeout(ctx, 10, 0) == 0);
	CHECK(modbus_set_byte_timeout(ctx, 10, 0) == 0);
	CHECK(modbus_connect(ctx) == 0);

	CHECK(modbus_read_registers(ctx, 75, 125, r) == 125);
	for (int n = 0; n < 125; n++)
		CHECK(r[n] == (uint16_t)((75 + n) * 7));
	CHECK(modbus_read_input_registers(ctx, 0, 125, r) == 125);
	for (int n = 0; n < 125; n++)
		CHECK(r[n] == (uint16_t)(n * 11));
	CHECK(modbus_read_registers(ctx, 65535, 1, r) == 1);
	CHECK(r[0] == (uint16_t)(65535 * 7));
	CHECK(modbus_read_registers(ctx, 150, 125, r) == -1);
	CHECK(errno == EMBXILADD);
	CHECK(modbus_read_bits(ctx, 0, 2000, b) == 2000);
	for (int n = 0; n < 2000; n++)
		CHECK(b[n] == (n % 3 == 0));
	CHECK(modbus_read_input_bits(ctx, 3, 9, b) == 9);
	for (int n = 0; n < 9; n++)
		CHECK(b[n] == ((3 + n) % 5 == 0));

	CHECK(modbus_write_bit(ctx, 1000, 1) == 1);
	CHECK(modbus_write_bit(ctx, 1002, 0) == 1);
	static const uint8_t bits[] = {1, 0, 1, 1, 0, 0, 1, 0, 1};
	CHECK(modbus_write_bits(ctx, 1010, 9, bits) == 9);
	CHECK(modbus_read_bits(ctx, 1010, 9, b) == 9);
	CHECK(memcmp(bits, b, 9) == 0);
	CHECK(modbus_write_register(ctx, 100, 0xBEEF) == 1);
	w[0] = 0x3FC0, w[1] = 0; /* 1.5 */
	CHECK(modbus_write_registers(ctx, 101, 2, w) == 2);
	for (int n = 0; n < 100; n++)
		w[n] = n ^ 0x5555;
	CHECK(modbus_write_registers(ctx, 0, 100, w) == 100);
	CHECK(modbus_read_registers(ctx, 0, 100, r) == 100);
	CHECK(memcmp(r, w, 200) == 0);
	CHECK(modbus_write_register(ctx, 60000, 1) == -1);
	CHECK(errno == EMBXILADD);
	if (more) {
		CHECK(modbus_write_register(ctx, 120, 0x0012) == 1);
		CHECK(modbus_mask_write_register(ctx, 120, 0x00F2, 0x0025) == 1);
		CHECK(modbus_read_registers(ctx, 120, 1, r) == 1);
		CHECK(r[0] == 0x0017); /* the specification's own example */
		w[0] = 11, w[1] = 22;
		CHECK(modbus_write_and_read_registers(ctx, 121, 2, w, 120, 3, r) == 3);
		CHECK(r[0] == 0x0017 && r[1] == 11 && r[2] == 22);
	}
	modbus_close(ctx);
	modbus_free(ctx);
	printf("ok\n");
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	int tcp = strcmp(argv[2], "tcp") == 0;
	if (strcmp(argv[1], "serve") == 0)
		serve(tcp ? NULL : argv[3]);
	else
		use(tcp ? modbus_new_tcp(argv[3], atoi(argv[4])) : modbus_new_rtu(argv[3], 19200, 'N', 8, 1),
		    strcmp(argv[argc - 1], "more") == 0);
	return 0;
}
