package auth

import (
	"os"
	"time"

	"github.com/voltageems/voltage/model"
)

// lookEvery is how often a file is looked at for changes, at most.
const lookEvery = time.Second

// watched is a file that is read again when it changes. It is looked at when it is
// needed, not by a goroutine of its own. The caller holds a lock.
type watched struct {
	path  string
	clock model.Clock

	next   time.Time
	known  bool
	exists bool
	mod    time.Time
	size   int64
}

// again has the file be read at the next look, although it may look the same: what
// could not be read, for whatever reason, may be readable then.
func (w *watched) again() { w.exists, w.mod, w.size = false, time.Time{}, -1 }

// changed reports whether the file is to be read: the first time, and whenever its
// time or size differ from those seen last.
func (w *watched) changed() bool {
	now := w.clock.Now()
	if w.known && now.Before(w.next) && w.next.Sub(now) <= lookEvery { // a clock set back does not stop it
		return false
	}
	w.next = now.Add(lookEvery)
	info, err := os.Stat(w.path)
	exists, mod, size := err == nil, time.Time{}, int64(0)
	if exists {
		mod, size = info.ModTime(), info.Size()
	}
	same := w.known && w.exists == exists && w.mod.Equal(mod) && w.size == size
	w.known, w.exists, w.mod, w.size = true, exists, mod, size
	return !same
}
