// Package reference is the logic of the scripts once more, in Go: what
// data_sync, alarm_check, alarm_tick, alarm_desk, rule_engine, command, channel_owner and
// site_config do, call by call. It serves whoever has to know what a script
// should have done: the differential fuzz, the self-test of a hot update, the
// shadow mode, which replays the calls of a Lua run, and the direct mode, which
// does without Lua.
//
// [Run] makes the same Redis commands with the same arguments in the same order
// as the Lua. Where the Lua walks over a table with pairs the order is free, and
// here it is that of the sorted names. [Same] compares two commands with that,
// and the free order of fields in a notification, in mind.
//
// Each file here has the functions of the Lua file of that name, under the same
// names. An error in the Lua is a panic with a private type here, as deep inside
// as it is there; protect, the Lua's pcall, and Run catch it. None leaves the
// package.
//
// [Memory] is a [Store] of just the commands that the scripts use.
package reference
