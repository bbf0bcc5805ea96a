// Package alarmtest runs tests of alarm rules that are written as plain text, as
// docs/alarm-tests.md describes them: which values come when, what people do, and
// which alarms, transitions and notifications are expected.
//
//	test "an alarm comes and goes"
//	rule hot pcs1:temperature > 60 hysteresis 2
//	load 10s pcs1:temperature 50 61 59 58
//	eval 20s
//	  hot active 61
//	journal 30s
//	  10s raised hot 61
//	  30s cleared hot 58
//
// Everything runs through the scripts of the data plane, as on a site, but the
// time is that of the test: nothing waits, and each run is the same.
package alarmtest
