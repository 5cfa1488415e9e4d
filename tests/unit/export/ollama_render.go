// What Ollama makes of a TEMPLATE: Go's text/template, given messages as Ollama prepares them (template/template.go of
// ollama/ollama: system messages joined, messages of one speaker in a row joined, missing keys empty).
//
// Reads {name: {"go": template, "cases": [{"messages": [[role, content], …]}]}} and writes it with "text" in each case.
// `tests/unit/export/test_ollama.py --record` writes ollama_rendered.json by it.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type message struct {
	Role    string
	Content string
}

type conversation struct {
	Messages [][2]string `json:"messages"`
	Text     string      `json:"text"`
}

type entry struct {
	Go    string          `json:"go"`
	Cases []*conversation `json:"cases"`
}

func render(text string, turns [][2]string) string {
	parsed, err := template.New("").Option("missingkey=zero").Parse(text)
	if err != nil {
		return "parse: " + err.Error()
	}
	var system []string
	var messages []*message
	for _, turn := range turns {
		if turn[0] == "system" {
			system = append(system, turn[1])
		}
		if n := len(messages); n > 0 && messages[n-1].Role == turn[0] {
			messages[n-1].Content += "\n\n" + turn[1]
		} else {
			messages = append(messages, &message{turn[0], turn[1]})
		}
	}
	var out strings.Builder
	values := map[string]any{"System": strings.Join(system, "\n\n"), "Messages": messages, "Response": ""}
	if err := parsed.Execute(&out, values); err != nil {
		return "execute: " + err.Error()
	}
	return out.String()
}

func main() {
	var all map[string]*entry
	if err := json.NewDecoder(os.Stdin).Decode(&all); err != nil {
		panic(err)
	}
	for _, each := range all {
		for _, asked := range each.Cases {
			asked.Text = render(each.Go, asked.Messages)
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(all); err != nil {
		panic(err)
	}
}
