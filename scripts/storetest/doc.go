// Package storetest gives tests the stores that Voltage runs on: the embedded one
// and real redis-server and valkey-server processes on the loopback interface.
//
// Where redis-server is missing, tests that need it are skipped with that reason;
// with VOLTAGE_CI=1 in the environment they fail instead. Servers end together
// with the test binary, however that ends (Linux).
//
// Tests share one server of each kind per test binary. Each test therefore has a
// site, and so a key prefix, of its own ([Site]), and none may flush the server
// or its scripts: what does needs [Own].
package storetest
