// OpenAI's SDK with nothing said but a key, as an application has it: where it calls is the vendor's own host. One line of JSON.
//   node caught.mjs KEY MODEL        SDKs are found in NODE_SDKS (a directory with node_modules)
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(process.env.NODE_SDKS + "/"));
const OpenAI = (await import(pathToFileURL(require.resolve("openai")))).default;
const [key, model] = process.argv.slice(2);

const client = new OpenAI({ apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: "Hi" }];
const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
let streamed = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true }))
  streamed += chunk.choices[0]?.delta?.content ?? "";
console.log(JSON.stringify({ text: data.choices[0].message.content, streamed, provider: response.headers.get("x-sluice-provider") }));
