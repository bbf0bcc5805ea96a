package mqtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// maxIncoming bounds what a broker may send, in bytes: it has little to say to a
// client that subscribes to nothing.
const maxIncoming = 1 << 10

// readAnswer reads a CONNACK or PUBACK. It passes over messages, which some brokers send
// though nobody subscribed to them. The length of a packet is looked at before anything
// is read, because packets.ReadPacket sets aside at once what a packet claims, up to
// 256 MB.
func readAnswer(in *bufio.Reader) (packets.ControlPacket, error) {
	for {
		kind, length, size, err := header(in)
		if err != nil {
			return nil, err
		}
		switch {
		case kind != packets.Connack && kind != packets.Puback && kind != packets.Publish:
			return nil, fmt.Errorf("the broker sent a packet of type %d, which is no answer", kind)
		case length > maxIncoming:
			return nil, fmt.Errorf("the broker sent a packet of %d bytes: at most %d are expected", length, maxIncoming)
		case kind == packets.Publish: // below
		case length != 2:
			return nil, fmt.Errorf("the broker sent a %s of %d bytes: want 2", packets.PacketNames[kind], length)
		default:
			p, err := packets.ReadPacket(in)
			return p, unexpected(err)
		}
		if _, err := in.Discard(size + int(length)); err != nil {
			return nil, unexpected(err)
		}
	}
}

// header looks at the header of the next packet, without reading it: the type, the
// length of what follows, and its own size.
func header(in *bufio.Reader) (kind byte, length uint64, size int, err error) {
	for size = 2; size <= 5; size++ {
		b, err := in.Peek(size)
		if err != nil {
			return 0, 0, 0, unexpected(err)
		}
		if length, n := binary.Uvarint(b[1:]); n > 0 {
			return b[0] >> 4, length, size, nil
		}
	}
	return 0, 0, 0, errors.New("the broker sent a packet whose length cannot be")
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// accepted reads the answer to a CONNECT.
func accepted(p packets.ControlPacket) error {
	answer, ok := p.(*packets.ConnackPacket)
	if !ok {
		return errors.New("the broker answers a connection with something else than a CONNACK")
	}
	if answer.ReturnCode == packets.Accepted {
		return nil
	}
	if err := packets.ConnErrors[answer.ReturnCode]; err != nil {
		return fmt.Errorf("the broker refuses the connection: %w", err)
	}
	return fmt.Errorf("the broker refuses the connection with code %d", answer.ReturnCode)
}
