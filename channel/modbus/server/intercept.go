package server

import (
	"encoding/binary"
	"time"
)

// Request is what an intercept function sees of a request. Table, Address and
// Quantity are 0 where the request was too damaged or unknown to have them.
type Request struct {
	// Transaction is the transaction id of the frame, 0 with RTU.
	Transaction uint16
	// Unit is the unit id, 0 to 255.
	Unit byte
	// Function is the function code.
	Function byte
	// Table is the table that the function works on.
	Table Table
	// Address is the first protocol address; with FC 23, of what is read.
	Address uint16
	// Quantity is the number of bits or registers there; 1 for FC 5, 6 and 22, 0
	// for FC 24.
	Quantity uint16
	// PDU is the request from the function code on. It must be neither changed
	// nor kept.
	PDU []byte
}

// Action is a fault that an intercept function asks for. The zero value is no
// fault. Fields may be combined; they apply in the order in which they stand.
type Action struct {
	// Ignore loses the request: it is not executed and not answered.
	Ignore bool
	// Exception, if not 0, is the answer; the request is not executed.
	Exception Exception
	// Delay holds the answer back after the request was executed. Later
	// requests of the same connection wait too.
	Delay time.Duration
	// WrongTransaction answers with the transaction id plus one. RTU has none.
	WrongTransaction bool
	// Rewrite, if set, returns the frame to send in place of the given one, for
	// faults that have no field here.
	Rewrite func(frame []byte) []byte
	// Truncate leaves out that many bytes at the end of the frame while its
	// length field stays as it was.
	Truncate int
	// Drop loses the answer: the request was executed, nothing is sent.
	Drop bool
	// Duplicate sends the answer twice.
	Duplicate bool
	// Disconnect closes the connection after all that.
	Disconnect bool
}

// distort applies the parts of the action that change the frame and returns
// what goes over the connection, which may be nothing.
func (a Action) distort(out []byte) []byte {
	if a.WrongTransaction {
		binary.BigEndian.PutUint16(out, binary.BigEndian.Uint16(out)+1)
	}
	if a.Rewrite != nil {
		out = a.Rewrite(out)
	}
	if a.Truncate > 0 {
		out = out[:max(0, len(out)-a.Truncate)]
	}
	if a.Drop {
		return nil
	}
	if a.Duplicate {
		out = append(append(make([]byte, 0, 2*len(out)), out...), out...)
	}
	return out
}
