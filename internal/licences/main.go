// Command licences fails when a module that Voltage links is under a licence
// that the makers of closed firmware cannot accept (GPL, LGPL, AGPL, SSPL), or
// has none that can be found. Of a module that comes under a choice of licences it
// says which one is taken.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

// choice is a module whose recipient may choose among licences, and what Voltage takes.
// Both files lie in the module and are looked into, so that a version that offers the
// choice no more is refused.
type choice struct {
	offer, offerFile string // the words that offer it, and where they stand
	taken, takenFile string // the licence, as kind names it, and its text
}

var choices = map[string]choice{
	// Else it would be the EPL-2.0, which has its source passed on.
	"github.com/eclipse/paho.mqtt.golang": {offer: "SPDX-License-Identifier: EPL-2.0 or BSD-3-Clause", offerFile: "NOTICE.md", taken: "BSD-3-Clause", takenFile: "edl-v10"},
}

func run() error {
	list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}", "./...")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	for lines.Scan() {
		module, dir, ok := strings.Cut(lines.Text(), " ")
		if !ok || seen[module] {
			continue
		}
		seen[module] = true
		name, err := licence(dir)
		if c, ok := choices[module]; ok {
			name, err = c.licence(dir)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", module, err)
		}
		fmt.Printf("%-40s %s\n", module, name)
	}
	for module := range choices {
		if !seen[module] {
			return fmt.Errorf("%s is in the table of choices, and is not linked", module)
		}
	}
	return lines.Err()
}

// licence checks that the choice is offered and that what is taken is what it is said
// to be.
func (c choice) licence(dir string) (string, error) {
	offer, err := os.ReadFile(filepath.Join(dir, c.offerFile))
	if err != nil {
		return "", err
	}
	if !strings.Contains(string(offer), c.offer) {
		return "", fmt.Errorf("%s does not offer the choice %q", c.offerFile, c.offer)
	}
	name, err := kind(filepath.Join(dir, c.takenFile))
	if err != nil {
		return "", err
	}
	if name != c.taken {
		return "", fmt.Errorf("%s is %s, not %s", c.takenFile, name, c.taken)
	}
	return fmt.Sprintf("%s (%s), taken of the choice in %s", name, c.takenFile, c.offerFile), nil
}

// licence finds the licence file of a module and names what it is.
func licence(dir string) (string, error) {
	for _, pattern := range []string{"LICEN[SC]E*", "COPYING*"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			continue
		}
		return kind(files[0])
	}
	return "", fmt.Errorf("no licence file in %s", dir)
}

// kind reads the text of a licence and names it.
func kind(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	flat := strings.ToLower(strings.Join(strings.Fields(string(text)), " "))
	for _, refused := range []string{"general public license", "server side public license", "eclipse public license"} {
		if strings.Contains(flat, refused) {
			return "", fmt.Errorf("%s has the text of the %s", file, refused)
		}
	}
	bsd := "BSD-2-Clause"
	if strings.Contains(flat, "may be used to endorse or promote products") {
		bsd = "BSD-3-Clause"
	}
	for _, known := range [][2]string{{"apache license", "Apache-2.0"}, {"permission is hereby granted, free of charge", "MIT"},
		{"redistribution and use in source and binary forms", bsd}, {"permission to use, copy, modify", "ISC"}} {
		if strings.Contains(flat, known[0]) {
			return known[1], nil
		}
	}
	return "", fmt.Errorf("%s is of no known licence", file)
}
