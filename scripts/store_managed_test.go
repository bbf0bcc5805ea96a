package scripts

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts/internal/redisproc"
)

func storeNeedBinary(t *testing.T) {
	t.Helper()
	if _, ok := FindManagedBinary(); ok {
		return
	}
	if os.Getenv("VOLTAGE_CI") == "1" {
		t.Fatal("neither redis-server nor valkey-server is on PATH")
	}
	t.Skip("neither redis-server nor valkey-server is on PATH")
}

func storePID(t *testing.T, s *Store) int {
	t.Helper()
	text, err := s.Client.Info(context.Background(), "server").Result()
	require.NoError(t, err)
	pid, err := strconv.Atoi(storeParseInfo(text)["process_id"])
	require.NoError(t, err)
	return pid
}

// storeGone waits until a process is no more, or only a zombie that waits for
// the system's init.
func storeGone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, 20*time.Second, 5*time.Millisecond)
}

func TestManagedStoreKeepsItsData(t *testing.T) {
	t.Parallel()
	storeNeedBinary(t)
	ctx := context.Background()
	for _, p := range []Persistence{PersistAOF, PersistSnapshot, PersistNone} {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			folder := filepath.Join(t.TempDir(), `a "folder" with blänks`)
			cfg := StoreConfig{Managed: &Managed{Folder: folder, Persistence: p}}
			s, err := OpenStore(ctx, cfg, nil)
			require.NoError(t, err)
			require.Equal(t, StoreManaged, s.Kind)
			require.NoError(t, s.Client.Set(ctx, "k", "v", 0).Err())
			for name, want := range map[string]string{
				"maxmemory-policy": "noeviction", "port": "0", "hash-max-ziplist-entries": "8", "unixsocketperm": "700",
				"appendonly": map[bool]string{true: "yes", false: "no"}[p == PersistAOF],
			} {
				require.Equal(t, want, s.Client.ConfigGet(ctx, name).Val()[name], name)
			}
			pid := storePID(t, s)
			pgid, err := syscall.Getpgid(pid)
			require.NoError(t, err)
			require.Equal(t, pid, pgid)
			require.NoError(t, s.Close(ctx))
			storeGone(t, pid)
			require.NoFileExists(t, filepath.Join(folder, storeSocket))

			s, err = OpenStore(ctx, cfg, nil)
			require.NoError(t, err)
			want := "v"
			if p == PersistNone {
				want = ""
			}
			require.Equal(t, want, s.Client.Get(ctx, "k").Val())
			require.NoError(t, s.Close(ctx))
		})
	}
}

func TestManagedStoreChangesPersistence(t *testing.T) {
	t.Parallel()
	storeNeedBinary(t)
	ctx := context.Background()
	folder := t.TempDir()
	for i, p := range []Persistence{PersistSnapshot, PersistAOF, PersistSnapshot, PersistAOF} {
		s, err := OpenStore(ctx, StoreConfig{Managed: &Managed{Folder: folder, Persistence: p}}, nil)
		require.NoError(t, err)
		n, err := s.Client.Incr(ctx, "n").Result()
		require.NoError(t, err)
		require.EqualValues(t, i+1, n, "after the change to %s", p)
		require.NoError(t, s.Close(ctx))
	}
}

func TestManagedStoreTemporary(t *testing.T) {
	t.Parallel()
	storeNeedBinary(t)
	s, err := OpenStore(context.Background(), StoreConfig{Managed: &Managed{Persistence: PersistNone, MaxMemory: 64 << 20}}, nil)
	require.NoError(t, err)
	socket := strings.TrimPrefix(s.Address, "unix://")
	require.FileExists(t, filepath.Join(filepath.Dir(socket), storeLockFile))
	require.Equal(t, "67108864", s.Client.ConfigGet(context.Background(), "maxmemory").Val()["maxmemory"])
	require.NoError(t, s.Close(context.Background()))
	require.NoDirExists(t, filepath.Dir(socket))
}

func TestManagedStoreInADeepFolder(t *testing.T) {
	t.Parallel()
	storeNeedBinary(t)
	folder := filepath.Join(t.TempDir(), strings.Repeat("deep/", 40))
	s := storeOpen(t, StoreConfig{Managed: &Managed{Folder: folder, Persistence: PersistNone}})
	info, err := os.Stat(filepath.Join(folder, storeSocket))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	require.NotZero(t, storePID(t, s))
}

func TestManagedStoreLocksItsFolder(t *testing.T) {
	t.Parallel()
	storeNeedBinary(t)
	folder := t.TempDir()
	storeOpen(t, StoreConfig{Managed: &Managed{Folder: folder}})
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	_, err := OpenStore(ctx, StoreConfig{Managed: &Managed{Folder: folder}}, nil)
	require.ErrorIs(t, err, ErrStoreLocked)
	require.ErrorContains(t, err, folder)
	require.FileExists(t, filepath.Join(folder, storeSocket), "the first engine's socket is left alone")
}

func TestManagedStoreRestartsAServerThatDied(t *testing.T) {
	t.Parallel()
	storeNeedBinary(t)
	log := &storeLog{}
	ctx := context.Background()
	s, err := OpenStore(ctx, StoreConfig{Managed: &Managed{Folder: t.TempDir()}}, log.logger())
	require.NoError(t, err)
	require.NoError(t, s.Client.Set(ctx, "k", "v", 0).Err())
	pid := storePID(t, s)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	storeGone(t, pid)
	require.Eventually(t, func() bool { return s.Client.Get(ctx, "k").Val() == "v" }, 30*time.Second, 10*time.Millisecond)
	require.NotEqual(t, pid, storePID(t, s))
	require.Contains(t, log.String(), "died and is started again")
	require.NoError(t, s.Close(ctx))
}

func TestManagedStoreStopsAServerThatHangs(t *testing.T) {
	t.Parallel()
	storeNeedBinary(t)
	s, err := OpenStore(context.Background(), StoreConfig{Managed: &Managed{Persistence: PersistNone}}, nil)
	require.NoError(t, err)
	pid := storePID(t, s)
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Close(ctx), context.DeadlineExceeded)
	storeGone(t, pid)
	require.ErrorIs(t, s.Close(context.Background()), context.DeadlineExceeded, "the first result again")
}

func TestManagedStoreSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	storeNeedBinary(t)
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, storeRDBFile), []byte("REDIS0011 this is not a snapshot"), 0o600))
	_, err := OpenStore(context.Background(), StoreConfig{Managed: &Managed{Folder: folder, Persistence: PersistSnapshot}}, nil)
	require.ErrorIs(t, err, ErrStoreUnavailable)
	require.ErrorContains(t, err, folder)
	require.ErrorContains(t, err, "last words")
	_, err = OpenStore(context.Background(), StoreConfig{Managed: &Managed{Folder: folder, Binary: "/does/not/exist"}}, nil)
	require.ErrorIs(t, err, ErrStoreUnavailable)
	_, err = OpenStore(context.Background(), StoreConfig{Managed: &Managed{Folder: filepath.Join(folder, storeRDBFile)}}, nil)
	require.ErrorIs(t, err, ErrStoreConfig)
}

// The kernel ties the parent-death signal to the thread that started the child.
func TestManagedStoreOutlivesTheThreadThatOpenedIt(t *testing.T) {
	t.Parallel()
	storeNeedBinary(t)
	type result struct {
		s      *Store
		err    error
		thread int
	}
	got := make(chan result)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		s, err := OpenStore(context.Background(), StoreConfig{Managed: &Managed{Persistence: PersistNone}}, nil)
		got <- result{s, err, syscall.Gettid()}
	}()
	r := <-got
	require.NoError(t, r.err)
	defer func() { require.NoError(t, r.s.Close(context.Background())) }()
	if r.thread != os.Getpid() { // the runtime parks the main thread instead of ending it
		require.Eventually(t, func() bool {
			_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", r.thread))
			return os.IsNotExist(err)
		}, 10*time.Second, 5*time.Millisecond)
	}
	pid := storePID(t, r.s)
	require.NoError(t, r.s.Client.Set(context.Background(), "k", "v", 0).Err())
	require.Equal(t, pid, storePID(t, r.s), "not restarted either")
}

// TestManagedStoreEndsWithAKilledEngine runs an engine in a process of its own
// (TestManagedStoreHelper) and kills it.
func TestManagedStoreEndsWithAKilledEngine(t *testing.T) {
	t.Parallel()
	storeNeedBinary(t)
	folder := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestManagedStoreHelper$")
	cmd.Env = append(os.Environ(), "VOLTAGE_TEST_FOLDER="+folder)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	r := bufio.NewScanner(out)
	pid := 0
	for r.Scan() {
		if n, ok := strings.CutPrefix(r.Text(), "server="); ok {
			pid, err = strconv.Atoi(n)
			require.NoError(t, err)
			break
		}
	}
	require.NotZero(t, pid)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	storeGone(t, pid)
	// Nothing was lost, and the folder is free again.
	s := storeOpen(t, StoreConfig{Managed: &Managed{Folder: folder}})
	require.Equal(t, "v", s.Client.Get(context.Background(), "k").Val())
}

func TestManagedStoreHelper(t *testing.T) {
	folder := os.Getenv("VOLTAGE_TEST_FOLDER")
	if folder == "" {
		t.Skip("it is the engine that TestManagedStoreEndsWithAKilledEngine kills")
	}
	s, err := OpenStore(context.Background(), StoreConfig{Managed: &Managed{Folder: folder}}, nil)
	require.NoError(t, err)
	require.NoError(t, s.Client.Set(context.Background(), "k", "v", 0).Err())
	fmt.Printf("server=%d\n", storePID(t, s))
	select {} // until it is killed
}

func TestStoreServerConfig(t *testing.T) {
	t.Parallel()
	m := Managed{MaxMemory: 1 << 26}
	require.Contains(t, storeServerConfig(m, redisproc.Version{Major: 6, Minor: 2}, "/d", PersistAOF), "hash-max-ziplist-entries 8\n")
	text := storeServerConfig(m, redisproc.Version{Major: 7}, `/a "b"`, PersistSnapshot)
	require.Contains(t, text, "hash-max-listpack-entries 8\n")
	require.Contains(t, text, `dir "/a \"b\""`)
	require.Contains(t, text, "maxmemory 67108864\n")
	require.Equal(t, `"\xc3\xa4\x0a\\"`, storeQuote("ä\n\\"))
}

func TestStoreAnswers(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "v")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	require.False(t, storeAnswers(context.Background(), path))
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	go func() {
		for _, reply := range []string{"-LOADING wait\r\n", "+PONG\r\n"} {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(c).ReadString('\n')
			_, _ = c.Write([]byte(reply))
			_ = c.Close()
		}
	}()
	require.False(t, storeAnswers(context.Background(), path))
	require.True(t, storeAnswers(context.Background(), path))
}
