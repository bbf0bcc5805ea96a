package modbus

import (
	"encoding/binary"
	"slices"
	"time"

	gb "github.com/goburrow/modbus"
)

// doubtTime is how long the answer to a request is thought to be still under
// way when nothing else tells.
const doubtTime = 30 * time.Second

// doubt is a request whose answer did not come and still may. An RTU frame has
// no number that tells to which request it belongs.
type doubt struct {
	unit, function byte
	length         int // of the answer
	since          time.Time
}

// doubts are those of a line. They outlive its connection, for a gateway or a
// serial line may deliver after it was made anew. A unit answers its requests
// in order, so every answer that is surely to a later request ends its doubts.
type doubts []doubt

// add notes that a request left.
func (ds *doubts) add(unit byte, request *gb.ProtocolDataUnit, now time.Time) {
	d := doubt{unit, request.FunctionCode, wantedLength(request), now}
	*ds = slices.DeleteFunc(*ds, func(o doubt) bool {
		return o.unit == d.unit && o.function == d.function && o.length == d.length || now.Sub(o.since) > doubtTime
	})
	*ds = append(*ds, d)
}

// clear notes that a unit answered the last request.
func (ds *doubts) clear(unit byte) {
	*ds = slices.DeleteFunc(*ds, func(o doubt) bool { return o.unit == unit })
}

// open reports whether the answer to a request of a unit may still come, of a
// length, or with 0 of any.
func (ds doubts) open(unit, function byte, length int, now time.Time) bool {
	return slices.ContainsFunc(ds, func(d doubt) bool {
		return d.unit == unit && d.function == function && (length == 0 || d.length == length) && now.Sub(d.since) <= doubtTime
	})
}

// another returns a read with a function of which no answer may still come, so
// that an exception to it is told from those to earlier requests.
func (ds doubts) another(unit byte, now time.Time) (probe gb.ProtocolDataUnit, ok bool) {
	for function := byte(gb.FuncCodeReadInputRegisters); function >= gb.FuncCodeReadCoils; function-- {
		if !ds.open(unit, function, 0, now) {
			return gb.ProtocolDataUnit{FunctionCode: function, Data: appendRead(nil, 0, 1)}, true
		}
	}
	return probe, false
}

// probe returns a request that makes the next one safe: a read that the unit
// answers in a form which no answer that may still come has. ok is false when
// the next request needs none. A write needs one also when the lengths differ,
// as an exception to the earlier write would pass for its own.
func (ds doubts) probe(unit byte, next *gb.ProtocolDataUnit, now time.Time) (probe gb.ProtocolDataUnit, ok bool) {
	function, write := next.FunctionCode, next.FunctionCode > gb.FuncCodeReadInputRegisters
	open := func(function byte, length int) bool { return ds.open(unit, function, length, now) }
	length := wantedLength(next)
	if write {
		length = 0
	}
	if !open(function, length) {
		return probe, false
	}
	switch function {
	case gb.FuncCodeWriteSingleCoil, gb.FuncCodeWriteMultipleCoils:
		function = gb.FuncCodeReadCoils
	case gb.FuncCodeWriteSingleRegister, gb.FuncCodeWriteMultipleRegisters, gb.FuncCodeMaskWriteRegister, gb.FuncCodeReadWriteMultipleRegisters:
		function = gb.FuncCodeReadHoldingRegisters
	}
	step := 1 // in what the counts differ whose answers differ in length
	if function <= gb.FuncCodeReadDiscreteInputs {
		step = 8
	}
	start := int(binary.BigEndian.Uint16(next.Data))
	probe.FunctionCode = function
	for count := 1; ; count += step {
		probe.Data = appendRead(probe.Data[:0], min(start, 1<<16-count), count)
		if count+step > DefaultMaxRead*step || !open(function, wantedLength(&probe)) {
			return probe, true
		}
	}
}
