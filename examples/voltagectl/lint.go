package main

import (
	"context"
	"fmt"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel/all"
)

// finding is one of the linter's, as JSON.
type finding struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Severity string `json:"severity"`
	Text     string `json:"text"`
}

func runProfileLint(_ context.Context, c *call) error {
	list := []finding{}
	errs := 0
	for _, file := range c.names {
		for _, f := range voltage.LintProfile(file, all.Kinds()...) {
			severity := "warning"
			if f.Error {
				severity = "error"
				errs++
			}
			list = append(list, finding{f.File, f.Line, severity, f.Text})
			if !c.json {
				fmt.Fprintln(c.out, f)
			}
		}
	}
	if c.json {
		if err := c.printJSON(list); err != nil {
			return err
		}
	}
	if warnings := len(list) - errs; errs > 0 || warnings > 0 && c.device.strict {
		return fmt.Errorf("%s, %s", counted(errs, "error"), counted(warnings, "warning"))
	}
	return nil
}
