// Package luabox runs a script of the data plane in this process instead of in
// Redis: to see what a call would write without writing it (dry run), to make
// sure that a new text ends and answers before it becomes active (verification),
// and to see what a call spends its time on ([Profile]).
//
// [Run] gives a text the world that Redis 7 gives it: KEYS, ARGV, redis, cjson,
// string, table, math and the plain functions of Lua 5.1. Its commands go to a
// scratch [Store], an embedded store of its own, into which the keys that it
// touches are copied from a real one on first touch. The real store sees reads
// alone. PUBLISH reaches nobody.
//
// A script cannot harm the process that runs it: it ends with its context, it
// makes a bounded amount of text and tables, and it reaches no file, no network
// and no other state. Replies, conversions and errors of the script's own are
// those of Redis to the letter, which a test holds against a real server.
//
// # What is different
//
//   - The words of errors that the Lua machine raises itself ("attempt to …"); a
//     bad argument of a method call is counted with the object.
//   - bit, cmsgpack, struct, os, coroutine, load, loadstring, collectgarbage, the
//     settings of cjson and the rarer functions of redis are missing, as scripts
//     that also run on the embedded store do without them. So are RESP3 replies.
//   - A word goto is refused everywhere. Redis takes it for a name.
//   - pairs over _G or a library gives nothing. cjson.encode keeps the order in
//     which a table got its keys; pairs goes in that order too.
//   - math.random starts anew with every run; in Redis it goes on.
//   - The length of a table with holes, which Lua leaves open.
//   - Arithmetic on text ('010' + 0) reads octal and binary prefixes; tonumber
//     does not.
//   - After a caught error, local variables of outer functions that a closure
//     shares are no longer the same variable in both (the embedded store has this
//     too). Shared tables are not affected.
//   - Recursion is limited to about 1,000 calls, tail calls included (Redis:
//     20,000, tail calls excluded); table indexes to 1,048,576 unless a table grew
//     to there; texts to 1 MiB.
//   - A command that luabox does not know ends the run with [ErrCommand], so that
//     no dry run looks complete that is not.
//   - Order of hash fields and set members, and everything else in which miniredis
//     differs from Redis.
//
// An error object that is a table without a text in err is reported as an error
// here. Uncaught, it ends the whole server process of Redis 7.0.
package luabox
