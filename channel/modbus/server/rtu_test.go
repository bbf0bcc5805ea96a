package server

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func rtuFrame(b ...byte) []byte { return binary.LittleEndian.AppendUint16(b, crc16(b)) }

func TestRequestLength(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   []byte
		want int
	}{
		{nil, 0}, {[]byte{1}, 0}, {[]byte{248}, -1}, {[]byte{1, 3}, 8}, {[]byte{1, 6}, 8}, {[]byte{1, 16, 0, 0, 0, 1}, 0},
		{[]byte{1, 16, 0, 0, 0, 1, 2}, 11}, {[]byte{1, 15, 0, 0, 0, 1, 255}, -1}, {[]byte{1, 22}, 10}, {[]byte{1, 24}, 6},
		{[]byte{1, 23, 0, 0, 0, 1, 0, 0, 0, 1, 2}, 15}, {[]byte{1, 8}, 8}, {[]byte{1, 17}, 4}, {[]byte{1, 99}, -1}, {[]byte{1, 0x83}, -1},
	} {
		assert.Equal(t, c.want, requestLength(c.in), "% x", c.in)
	}
}

func TestServeRTU(t *testing.T) {
	t.Parallel()
	one, two := &Memory{}, &Memory{}
	one.SetRegisters(HoldingRegister, 0, 0x1234)
	two.SetRegisters(HoldingRegister, 0, 0)
	srv, err := New(Config{Units: map[byte]Handler{1: one, 2: two}})
	require.NoError(t, err)
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- srv.ServeRTU(far) }()
	require.NoError(t, near.SetDeadline(time.Now().Add(10*time.Second)))
	send := func(parts ...[]byte) {
		for _, p := range parts {
			_, err := near.Write(p)
			require.NoError(t, err)
		}
	}
	expect := func(want []byte) {
		got := make([]byte, len(want))
		_, err := io.ReadFull(near, got)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	ask := rtuFrame(1, 3, 0, 0, 0, 1)
	send(ask)
	expect(rtuFrame(1, 3, 2, 0x12, 0x34))
	// Garbage, a wrong checksum and a unit that is not there are passed over; a
	// request may come in pieces.
	wrong := rtuFrame(1, 6, 0, 0, 0, 1)
	wrong[5] = 9
	send([]byte{0xFF, 0x01, 0x99}, wrong, rtuFrame(3, 3, 0, 0, 0, 1), ask[:3], ask[3:])
	expect(rtuFrame(1, 3, 2, 0x12, 0x34))
	send(rtuFrame(2, 3, 0, 1, 0, 1))
	expect(rtuFrame(2, 0x83, 2))
	// A broadcast is carried out by all and answered by none.
	send(rtuFrame(0, 6, 0, 0, 0x43, 0x21), ask)
	expect(rtuFrame(1, 3, 2, 0x43, 0x21))
	v, _ := two.Register(HoldingRegister, 0)
	assert.EqualValues(t, 0x4321, v)

	require.NoError(t, srv.Close(context.Background()))
	require.ErrorIs(t, <-served, ErrClosed)
	_, err = near.Read(make([]byte, 1))
	require.Error(t, err)
	require.ErrorIs(t, srv.ServeRTU(far), ErrClosed)
}

func TestServeRTUEndsWithTheLine(t *testing.T) {
	t.Parallel()
	srv, err := New(Config{})
	require.NoError(t, err)
	near, far := net.Pipe()
	require.NoError(t, near.Close())
	require.NoError(t, srv.ServeRTU(far))
	require.NoError(t, srv.Close(context.Background()))
}
