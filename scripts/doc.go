// Package scripts is Voltage's data plane: the Lua scripts that move values,
// alarms, rules and commands inside Redis, and the only Go code that calls
// them, builds keys and knows go-redis.
//
// A Plane belongs to one site on one store. Each script stands behind typed
// methods: Writer.Write is data_sync's batch, Submit, Claim and Finish are the
// life of a command, Acquire and Renew the ownership of a channel, and so on.
// Every call may be repeated after a lost reply without a second effect.
//
// What Redis loses, the Plane restores: a script that was flushed is loaded
// again, and when site:generation shows that the data is gone, Options.Restore
// puts back the definitions before anything else goes on.
//
// The sources are in lua/, with the shared parts in lua/include/; keys.go has
// every key. OpenStore opens the store that a configuration asks for.
package scripts
