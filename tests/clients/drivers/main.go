// Anthropic's Go SDK.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
)

var client = anthropic.NewClient(option.WithBaseURL(os.Getenv("BASE_URL")+"/"), option.WithAPIKey(os.Getenv("GATEWAY_KEY")))
var background = context.Background()
var hello = anthropic.NewUserMessage(anthropic.NewTextBlock("Hello"))

func ask(messages ...anthropic.MessageParam) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{Model: anthropic.Model(os.Getenv("MODEL")), MaxTokens: 64, Messages: messages}
}

func plain() error {
	message, err := client.Messages.New(background, ask(hello))
	if err == nil {
		fmt.Println(message.Content[0].Text)
	}
	return err
}

func stream() error {
	answer := client.Messages.NewStreaming(background, ask(hello))
	for answer.Next() {
		fmt.Print(answer.Current().Delta.Text)
	}
	return answer.Err()
}

func tools() error {
	weather := anthropic.ToolParam{
		Name: "weather",
		InputSchema: anthropic.ToolInputSchemaParam{
			Properties: map[string]any{"city": map[string]string{"type": "string"}},
			Required:   []string{"city"},
		},
	}
	offered := []anthropic.ToolUnionParam{{OfTool: &weather}}
	first := ask(hello)
	first.Tools = offered
	message, err := client.Messages.New(background, first)
	if err != nil {
		return err
	}
	results := []anthropic.ContentBlockParamUnion{}
	for _, block := range message.Content {
		if block.Type == "tool_use" {
			results = append(results, anthropic.NewToolResultBlock(block.ID, "sunny", false))
		}
	}
	second := ask(hello, message.ToParam(), anthropic.NewUserMessage(results...))
	second.Tools = offered
	message, err = client.Messages.New(background, second)
	if err == nil {
		fmt.Println(message.Content[0].Text)
	}
	return err
}

func count() error {
	counted, err := client.Messages.CountTokens(background, anthropic.MessageCountTokensParams{
		Model:    anthropic.Model(os.Getenv("MODEL")),
		Messages: []anthropic.MessageParam{hello},
	})
	if err == nil {
		fmt.Println("tokens:", counted.InputTokens)
	}
	return err
}

func models() error {
	pages := client.Models.ListAutoPaging(background, anthropic.ModelListParams{})
	for pages.Next() {
		fmt.Println(pages.Current().ID)
	}
	return pages.Err()
}

func main() {
	operations := map[string]func() error{"plain": plain, "stream": stream, "tools": tools, "count": count, "models": models}
	if err := operations[os.Args[1]](); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
