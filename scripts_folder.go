package voltage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

const (
	// folderSettled is how long files must not have changed before they are read:
	// whoever copies them may be half way.
	folderSettled = time.Second
	// folderTime is what verifying and activating one script may take.
	folderTime = 30 * time.Second
	// folderTries is how often a script is tried that fails for a reason that
	// does not lie in its text.
	folderTries = 3
	// folderFiles bounds the files of a folder.
	folderFiles = 200
)

// scriptFolder is the folder of the configuration and what is known of it. One
// goroutine uses it.
type scriptFolder struct {
	path   string
	engine string
	plane  *scripts.Plane
	log    *slog.Logger

	started bool
	waiting bool              // the files changed and are not read yet
	seen    string            // how the files looked last
	fault   string            // why nothing of the folder can be used
	unread  bool              // a file could not be read, which its looks do not tell
	list    []scripts.Script  // what it holds
	decided map[string]string // SHA by name: nothing more is to be done about this text
	reasons map[string]string // why it is not active, by name
	tries   map[string]int
}

// watchFolder activates what is newer in the scripts folder, now and whenever a
// file changes.
func (e *Engine) watchFolder(ctx context.Context) {
	f := &scriptFolder{path: e.cfg.Scripts.Folder, engine: e.cfg.Engine, plane: e.plane, log: e.log,
		decided: map[string]string{}, reasons: map[string]string{}, tries: map[string]int{}}
	for {
		wait := f.round(ctx)
		if ctx.Err() != nil {
			return
		}
		e.problems.set(e.log, problemFolder, f.problems())
		select {
		case <-ctx.Done():
			return
		case <-e.cfg.Clock.After(wait):
		}
	}
}

// round looks at the folder and returns when to look again.
func (f *scriptFolder) round(ctx context.Context) time.Duration {
	look, err := lookAt(f.path)
	switch {
	case err != nil:
		f.seen, f.waiting = "", false
		f.refuse(err)
	case look != f.seen && f.started:
		f.seen, f.waiting = look, true
		return folderSettled
	case look != f.seen || f.waiting || f.unread:
		f.seen, f.waiting = look, false
		f.compose()
	}
	f.started = true
	for _, s := range f.list {
		if f.decided[s.Name] != s.SHA && ctx.Err() == nil {
			f.decide(ctx, s)
		}
	}
	return reconcilePeriod
}

// lookAt returns what tells one state of the folder's files from another.
func lookAt(folder string) (string, error) {
	if info, err := os.Stat(folder); err != nil {
		return "", loadCause(err)
	} else if !info.IsDir() {
		return "", fmt.Errorf("%w: not a folder", model.ErrInvalid)
	}
	files := os.DirFS(folder)
	var paths []string
	for _, pattern := range []string{"*.lua", "include/*.lua"} {
		list, err := fs.Glob(files, pattern)
		if err != nil {
			return "", err
		}
		paths = append(paths, list...)
	}
	if len(paths) > folderFiles {
		return "", fmt.Errorf("%w: more than %d files", model.ErrInvalid, folderFiles)
	}
	var look strings.Builder
	for _, p := range paths {
		info, err := fs.Stat(files, p)
		switch {
		case err != nil:
			return "", fmt.Errorf("%s: %w", p, loadCause(err))
		case !info.Mode().IsRegular(): // a pipe would block for as long as nobody writes to it
			return "", fmt.Errorf("%w: %s: not a regular file", model.ErrInvalid, p)
		case info.Size() > scripts.MaxScript:
			return "", fmt.Errorf("%w: %s: more than %d bytes", model.ErrInvalid, p, scripts.MaxScript)
		}
		fmt.Fprintf(&look, "%q %d %d\n", p, info.Size(), info.ModTime().UnixNano())
	}
	return look.String(), nil
}

// compose reads the scripts anew. Those whose text is the same stay decided.
func (f *scriptFolder) compose() {
	list, err := scripts.ComposeFolder(os.DirFS(f.path))
	var file *fs.PathError
	f.unread = errors.As(err, &file)
	if err != nil {
		// One fault refuses them all: it may be in what they share.
		f.refuse(err)
		return
	}
	f.fault, f.list = "", list
	has := func(name string) bool {
		return slices.ContainsFunc(list, func(s scripts.Script) bool { return s.Name == name })
	}
	maps.DeleteFunc(f.decided, func(name, _ string) bool { return !has(name) })
	maps.DeleteFunc(f.reasons, func(name, _ string) bool { return !has(name) })
	clear(f.tries)
}

// refuse takes note that nothing of the folder can be used as it is.
func (f *scriptFolder) refuse(err error) {
	f.fault, f.list = err.Error(), nil
	for name := range f.reasons { // told again, where it is still so later
		delete(f.decided, name)
	}
	clear(f.reasons)
}

// decide activates a script where it is newer than the active one.
func (f *scriptFolder) decide(ctx context.Context, s scripts.Script) {
	delete(f.reasons, s.Name)
	ctx, cancel := context.WithTimeout(ctx, folderTime)
	defer cancel()
	err := f.activate(ctx, s)
	if err == nil {
		f.decided[s.Name] = s.SHA
		return
	}
	f.reasons[s.Name] = err.Error()
	// A busy machine may not be done with a script that is in order.
	late := errors.Is(err, context.DeadlineExceeded)
	for _, final := range []error{scripts.ErrRefused, scripts.ErrScript, scripts.ErrVersion, scripts.ErrNotFound, model.ErrInvalid, errLeftOut} {
		if !late && errors.Is(err, final) {
			f.decided[s.Name] = s.SHA
			return
		}
	}
	if f.tries[s.Name]++; f.tries[s.Name] >= folderTries {
		f.decided[s.Name] = s.SHA
	}
}

// errLeftOut says that a script is not to be activated by itself.
var errLeftOut = errors.New("left out")

func (f *scriptFolder) activate(ctx context.Context, s scripts.Script) error {
	st, err := f.plane.ScriptState(ctx, s.Name)
	if err != nil {
		if errors.Is(err, scripts.ErrStore) {
			f.tries[s.Name]-- // it was not tried
		}
		return err
	}
	if st.Active == s.Version {
		return nil
	}
	if st.Active != "" {
		order, err := scripts.CompareVersions(s.Version, st.Active)
		switch {
		case err != nil:
			return err
		case order == 0:
			return fmt.Errorf("%w: version %s is another text than %s, which is active: raise @version", errLeftOut, s.Version, st.Active)
		case order < 0:
			f.log.Info("the scripts folder has an older version than the active one", "script", s.Name, "version", s.Version, "active", st.Active)
			return nil
		}
	}
	if why := st.Refused[s.Version]; why != "" {
		return fmt.Errorf("%w: version %s was rolled back: %s", errLeftOut, s.Version, why)
	}
	return f.plane.UpdateScript(ctx, s, scripts.Change{By: "folder", Reason: "engine " + f.engine})
}

// problems names what is wrong with the folder.
func (f *scriptFolder) problems() (list []string) {
	if f.fault != "" {
		list = append(list, "scripts folder "+f.path+": "+f.fault)
	}
	for _, name := range slices.Sorted(maps.Keys(f.reasons)) {
		list = append(list, "scripts folder "+f.path+": "+name+".lua: "+f.reasons[name])
	}
	return list
}
