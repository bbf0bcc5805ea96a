package scripts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/voltageems/voltage/scripts/internal/redisproc"
)

// Files of a Redis server in the data folder.
const (
	storeAOFFolder = "appendonlydir"  // Redis 7 and Valkey
	storeAOFFile   = "appendonly.aof" // Redis 6.2
	storeRDBFile   = "dump.rdb"
)

// storeServerConfig writes the child's configuration. The child is in folder
// when it reads the socket's name, so a long path does not matter there.
func storeServerConfig(m Managed, v redisproc.Version, folder string, how Persistence) string {
	var b strings.Builder
	set := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	set("dir %s", storeQuote(folder))
	set("port 0")
	set("unixsocket %s", storeSocket)
	set("unixsocketperm 700")
	set("daemonize no")
	set("databases 1")
	set("loglevel notice")
	// A full store must say so. Dropping keys by itself would lose alarms.
	set("maxmemory %d", m.MaxMemory)
	set("maxmemory-policy noeviction")
	// A hash that is a listpack costs four times as much to write as a hash table.
	listpack := "listpack"
	if !v.AtLeast(7, 0) {
		listpack = "ziplist"
	}
	set("hash-max-%s-entries 8", listpack)
	// The scripts take milliseconds; one that runs this long is reported as BUSY
	// instead of as time-outs of everything else.
	set("lua-time-limit 1000")
	// A subscriber that does not read must not take a gateway's memory.
	set("client-output-buffer-limit pubsub 8mb 2mb 60")
	// The plant goes on when the disk is full: a failed snapshot is logged, it
	// does not stop the writes.
	set("stop-writes-on-bgsave-error no")
	switch how {
	case PersistAOF:
		set(`save ""`)
		set("appendonly yes")
		set("appendfsync everysec")
		// The file is rewritten when it has doubled and is not small: a rewrite of
		// a site's few megabytes every 64 MiB adds little to the flash wear.
		set("auto-aof-rewrite-percentage 100")
		set("auto-aof-rewrite-min-size 64mb")
	case PersistSnapshot:
		set("save 300 1")
		set("appendonly no")
		set("dbfilename %s", storeRDBFile)
	default:
		set(`save ""`)
		set("appendonly no")
		set("dbfilename none.rdb") // a snapshot of earlier times must not be loaded
	}
	return b.String()
}

// storeQuote writes s as one argument of a Redis configuration file.
func storeQuote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// convert brings data that was written with the other persistence into the form
// that is configured now. Without it Redis would ignore the other file and begin
// empty. Where both kinds of file exist, the append-only file is the newer one,
// because a conversion to snapshots removes it.
func (c *storeChild) convert(ctx context.Context) error {
	aof := c.exists(filepath.Join(storeAOFFolder)) || c.exists(storeAOFFile)
	switch {
	case c.cfg.Persistence == PersistSnapshot && aof:
		return c.toSnapshot(ctx)
	case c.cfg.Persistence == PersistAOF && !aof && c.exists(storeRDBFile):
		return c.toAOF(ctx)
	}
	return nil
}

func (c *storeChild) exists(name string) bool {
	_, err := os.Stat(filepath.Join(c.folder, name))
	return err == nil
}

func (c *storeChild) toSnapshot(ctx context.Context) error {
	c.log.Info("managed store: turning the append-only file into a snapshot", "folder", c.folder)
	if err := c.with(ctx, PersistAOF, [][]any{{"save"}}, nil); err != nil {
		return err
	}
	return errors.Join(
		os.RemoveAll(filepath.Join(c.folder, storeAOFFolder)),
		os.RemoveAll(filepath.Join(c.folder, storeAOFFile)))
}

func (c *storeChild) toAOF(ctx context.Context) error {
	c.log.Info("managed store: turning the snapshot into an append-only file", "folder", c.folder)
	written := func(info map[string]string) (bool, error) {
		if info["aof_rewrite_in_progress"] == "1" || info["aof_rewrite_scheduled"] == "1" {
			return false, nil
		}
		if s := info["aof_last_bgrewrite_status"]; s != "ok" {
			return false, fmt.Errorf("append-only file not written: %s", s)
		}
		return true, nil
	}
	err := c.with(ctx, PersistSnapshot, [][]any{{"config", "set", "appendonly", "yes"}}, written)
	if err != nil {
		// What is half written must not pass for the data the next time.
		return errors.Join(err,
			os.RemoveAll(filepath.Join(c.folder, storeAOFFolder)),
			os.RemoveAll(filepath.Join(c.folder, storeAOFFile)))
	}
	return nil
}

// with runs a server with another persistence for a few commands. It waits until
// settled, which looks at INFO persistence, says yes; nil = at once.
func (c *storeChild) with(ctx context.Context, how Persistence, commands [][]any, settled func(map[string]string) (bool, error)) (err error) {
	proc, err := c.start(ctx, how)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, proc.Stop(ctx)) }()
	client := c.client()
	defer func() { err = errors.Join(err, client.Close()) }()
	c.quiet.Store(true)
	// Writing everything takes longer than a command may: only ctx limits it.
	slow := client.WithTimeout(storeManagedTimeout)
	for _, command := range commands {
		if err := slow.Do(ctx, command...).Err(); err != nil {
			return fmt.Errorf("%v: %w", command[0], err)
		}
	}
	for settled != nil {
		text, err := client.Info(ctx, "persistence").Result()
		if err != nil {
			return err
		}
		if ok, err := settled(storeParseInfo(text)); ok || err != nil {
			return err
		}
		if !storeWait(ctx, storeRetry) {
			return ctx.Err()
		}
	}
	return nil
}

// storeAnswers reports whether the server behind a unix socket answers PING.
func storeAnswers(ctx context.Context, socket string) bool {
	ctx, cancel := context.WithTimeout(ctx, storeDialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(storeDialTimeout)); err != nil {
		return false
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "+PONG")
}
