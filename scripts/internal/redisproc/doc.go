// Package redisproc runs redis-server or valkey-server as a child process that
// shares the fate of this one: it is in a process group of its own, so that
// Ctrl-C in a terminal reaches only the parent, and the kernel ends it when the
// parent dies, even by SIGKILL. It works on Linux; elsewhere [Start] returns
// [ErrUnsupported].
package redisproc
