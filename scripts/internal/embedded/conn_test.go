package embedded

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConnCarriesBytesBothWays(t *testing.T) {
	t.Parallel()
	a, b := newPair(time.Now)
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = byte(i * 7)
	}
	n, err := a.Write(big) // does not wait for a reader
	require.NoError(t, err)
	require.Equal(t, len(big), n)
	require.NoError(t, a.Close())
	got, err := io.ReadAll(b)
	require.NoError(t, err)
	require.Equal(t, big, got)
	_, err = b.Write([]byte("x"))
	require.Error(t, err)
}

func TestConnInterleavedReadsAndWrites(t *testing.T) {
	t.Parallel()
	a, b := newPair(time.Now)
	var want, got []byte
	p := make([]byte, 7)
	for i := range 2000 {
		chunk := []byte{byte(i), byte(i >> 8), 3, 4, 5, 6, 7, 8}[:1+i%8]
		want = append(want, chunk...)
		_, err := a.Write(chunk)
		require.NoError(t, err)
		n, err := b.Read(p[:1+i%4])
		require.NoError(t, err)
		got = append(got, p[:n]...)
	}
	require.NoError(t, a.Close())
	rest, err := io.ReadAll(b)
	require.NoError(t, err)
	require.Equal(t, want, append(got, rest...))
}

func TestConnDeadline(t *testing.T) {
	t.Parallel()
	a, b := newPair(time.Now)
	require.NoError(t, b.SetReadDeadline(time.Now().Add(-time.Second)))
	_, err := b.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)

	require.NoError(t, b.SetDeadline(time.Now().Add(5*time.Millisecond)))
	_, err = b.Read(make([]byte, 1)) // waits, then gives up
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)

	require.NoError(t, b.SetDeadline(time.Time{}))
	got := make(chan error, 1)
	go func() {
		_, err := b.Read(make([]byte, 1))
		got <- err
	}()
	require.NoError(t, b.SetDeadline(time.Unix(1, 0))) // ends the read that waits
	require.ErrorIs(t, <-got, os.ErrDeadlineExceeded)

	require.NoError(t, b.SetDeadline(time.Time{}))
	_, err = a.Write([]byte("y"))
	require.NoError(t, err)
	n, err := b.Read(make([]byte, 2))
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

func TestConnDropsSlowReader(t *testing.T) {
	t.Parallel()
	clock := &fakeClock{t: time.Now()}
	client, server := newPair(clock.now)
	_, err := server.Write(make([]byte, slowBytes+1))
	require.NoError(t, err)
	clock.add(slowAfter / 2)
	_, err = client.Read(make([]byte, 8)) // slow, but reading
	require.NoError(t, err)
	clock.add(slowAfter)
	_, err = server.Write(make([]byte, 64))
	require.NoError(t, err)
	clock.add(slowAfter)
	_, err = server.Write([]byte("x"))
	require.ErrorIs(t, err, ErrSlowReader)
	_, err = client.Read(make([]byte, 8))
	require.True(t, errors.Is(err, io.EOF))
	_, err = server.Read(make([]byte, 8)) // the server forgets the client
	require.ErrorIs(t, err, io.EOF)
}

func TestConnHasAHardLimit(t *testing.T) {
	t.Parallel()
	_, server := newPair(time.Now)
	chunk := make([]byte, 8<<20)
	var err error
	for range hardBytes/len(chunk) + 1 {
		if _, err = server.Write(chunk); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, ErrSlowReader)
}
