package mqtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// What this package needs of MQTT 3.1.1: a client that publishes one message after
// the other, with quality of service 1.

// The types of packets, in the upper half of the first byte.
const (
	packetConnect    = 1
	packetConnAck    = 2
	packetPublish    = 3
	packetPubAck     = 4
	packetDisconnect = 14
)

// maxIncoming bounds what a broker may answer: it has little to say to a client
// that subscribes to nothing.
const maxIncoming = 1 << 10

// maxRemaining is the most that the length of a packet can say.
const maxRemaining = 268_435_455

func packet(first byte, body []byte) []byte {
	p := []byte{first}
	for n := len(body); ; {
		b := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			p = append(p, b|0x80)
			continue
		}
		p = append(p, b)
		break
	}
	return append(p, body...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// connectPacket begins a clean session. The texts have at most 65,535 bytes.
func connectPacket(client, username, password string, keepAlive uint16) []byte {
	flags := byte(0x02) // clean session
	if username != "" {
		flags |= 0x80
	}
	if password != "" {
		flags |= 0x40
	}
	b := append(appendText(nil, "MQTT"), 4, flags)
	b = appendText(binary.BigEndian.AppendUint16(b, keepAlive), client)
	if username != "" {
		b = appendText(b, username)
	}
	if password != "" {
		b = appendText(b, password)
	}
	return packet(packetConnect<<4, b)
}

func publishPacket(topic string, id uint16, retain bool, payload []byte) []byte {
	first := byte(packetPublish<<4 | 0x02) // quality of service 1
	if retain {
		first |= 0x01
	}
	return packet(first, append(binary.BigEndian.AppendUint16(appendText(nil, topic), id), payload...))
}

// readPacket reads one packet of a broker.
func readPacket(r *bufio.Reader) (kind byte, body []byte, err error) {
	first, err := r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	length := 0
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, nil, unexpected(err)
		}
		length |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
		if shift == 21 {
			return 0, nil, errors.New("the broker sent a packet whose length cannot be")
		}
	}
	if length > maxIncoming {
		return 0, nil, fmt.Errorf("the broker sent a packet of %d bytes: at most %d are expected", length, maxIncoming)
	}
	body = make([]byte, length)
	_, err = io.ReadFull(r, body)
	return first >> 4, body, unexpected(err)
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// refusals are the codes with which a broker refuses a connection.
var refusals = [...]string{1: "it does not speak MQTT 3.1.1", 2: "the client id is refused", 3: "it is not available", 4: "wrong user name or password", 5: "not authorised"}

// connAck reads the answer to a CONNECT.
func connAck(kind byte, body []byte) error {
	switch {
	case kind != packetConnAck || len(body) != 2:
		return fmt.Errorf("the broker answers a connection with a packet of type %d with %d bytes", kind, len(body))
	case body[1] == 0:
		return nil
	case int(body[1]) < len(refusals):
		return fmt.Errorf("the broker refuses the connection: %s", refusals[body[1]])
	}
	return fmt.Errorf("the broker refuses the connection with code %d", body[1])
}

// pubAck reports whether a packet acknowledges the message of that number.
func pubAck(kind byte, body []byte, id uint16) bool {
	return kind == packetPubAck && len(body) == 2 && binary.BigEndian.Uint16(body) == id
}
