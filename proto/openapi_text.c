#include "proto/openapi_text.h"

#include "proto/chat.h"
#include "proto/completion.h"
#include "proto/params.h"
#include "proto/responses.h"
#include "proto/tokenize.h"

#include <stddef.h>

const char cog_openapi_description[] =
    "Questions about pictures, in the form of the OpenAI API. Addresses below /v1 are taken "
    "without it as well, HEAD wherever GET is. Null is as good as leaving a field out. What a "
    "request must be beside its schema is in x-rules; maxLength counts bytes of UTF-8.";

const cog_openapi_operation cog_openapi_operations[] = {
    { .path = "/v1/chat/completions",
      .id = "createChatCompletion",
      .summary = "Answers a conversation about a picture, or about text alone.",
      .request = "ChatRequest",
      .response = "ChatCompletion",
      .chunk = "ChatCompletionChunk",
      .has_model = true },
    { .path = "/v1/chat/completions/batch",
      .id = "createChatCompletions",
      .summary = "Answers several conversations, each with its own picture and its own error.",
      .request = "BatchRequest",
      .response = "BatchCompletion",
      .has_model = true },
    { .path = "/v1/chat/completions/input_tokens",
      .id = "countInputTokens",
      .summary = "How many tokens the prompt of a conversation has.",
      .request = "ChatRequest",
      .response = "InputTokens",
      .has_model = true },
    { .path = "/v1/completions",
      .id = "createCompletion",
      .summary = "Continues texts.",
      .request = "CompletionRequest",
      .response = "Completion",
      .chunk = "CompletionChunk",
      .has_model = true },
    { .path = "/v1/responses",
      .id = "createResponse",
      .summary = "Answers a conversation in the form of the Responses API; nothing is kept.",
      .request = "ResponseRequest",
      .response = "Response",
      .chunk = "ResponseEvent",
      .has_named_events = true,
      .has_model = true },
    { .path = "/v1/responses/input_tokens",
      .id = "countResponseTokens",
      .summary = "How many tokens the prompt of a response has.",
      .request = "ResponseRequest",
      .response = "InputTokens",
      .has_model = true },
    { .path = "/v1/tokenize",
      .id = "tokenize",
      .summary = "The tokens of a text or of a conversation.",
      .request = "TokenizeRequest",
      .response = "Tokens",
      .has_model = true },
    { .path = "/v1/detokenize",
      .id = "detokenize",
      .summary = "The text of tokens.",
      .request = "DetokenizeRequest",
      .response = "Text",
      .has_model = true },
    { .path = "/v1/files",
      .id = "createFile",
      .summary = "Stores a picture, to be asked about by its id.",
      .request = "FileRequest",
      .response = "File" },
    { .path = "/v1/files",
      .id = "listFiles",
      .summary = "The files of the key.",
      .query = "{'name':'purpose','in':'query','schema':{'enum':['vision','user_data']}},"
               "{'name':'limit','in':'query','schema':{'type':'integer','minimum':1,"
               "'maximum':10000}},"
               "{'name':'order','in':'query','schema':{'enum':['asc','desc']}},"
               "{'name':'after','in':'query','schema':{'type':'string'}}",
      .response = "FileList" },
    { .path = "/v1/files/{id}",
      .id = "getFile",
      .summary = "What is known of a file.",
      .response = "File" },
    { .path = "/v1/files/{id}",
      .id = "deleteFile",
      .summary = "Forgets a file; requests that have it go on.",
      .is_delete = true,
      .response = "DeletedFile" },
    { .path = "/v1/files/{id}/content",
      .id = "getFileContent",
      .summary = "The file as it came.",
      .type = "image/*" },
    { .path = "/v1/models",
      .id = "listModels",
      .summary = "The model under its names.",
      .response = "ModelList" },
    { .path = "/v1/models/{id}",
      .id = "getModel",
      .summary = "The model under one name.",
      .response = "Model",
      .has_model = true },
    { .path = "/version",
      .id = "getVersion",
      .summary = "What is running.",
      .response = "Version" },
    { .path = "/openapi.json",
      .id = "getOpenAPI",
      .summary = "This document.",
      .response = "Document" },
    { .path = "/livez",
      .id = "getLiveness",
      .summary = "Whether the server is to be restarted.",
      .unready = "Liveness" },
    { .path = "/readyz",
      .id = "getReadiness",
      .summary = "Whether requests are answered.",
      .response = "Readiness",
      .unready = "Readiness" },
    { .path = "/v1/health",
      .id = "getHealth",
      .summary = "The same, with an error of the API.",
      .response = "Health",
      .unready = "Error500" },
    { .path = "/metrics", .id = "getMetrics", .summary = "Numbers for Prometheus." },
    { 0 },
};

/* What a schema cannot say, by name. */
#define RULES_OF_ALL                                                                               \
    "'structure':'The form of an answer is given once, is one that this server knows, and stands " \
    "alone.',"                                                                                     \
    "'bytes':'maxLength counts bytes of UTF-8.',"                                                  \
    "'nul':'No string has the character U+0000.',"                                                 \
    "'stream_options':'Only with stream.',"                                                        \
    "'tokens':'Keys of logit_bias are token ids of the model; allowed_token_ids are not more "     \
    "than it has.',"                                                                               \
    "'min_tokens':'min_tokens and min_new_tokens are at most the output limit, and some token "    \
    "may be drawn that does not end the answer.',"                                                 \
    "'context':'The prompt leaves room in the context.'"

const cog_openapi_request cog_openapi_requests[] = {
    { .name = "ChatRequest",
      .tables = { &cog_params_fields, &cog_chat_fields },
      .more = ",'x-rules':{" RULES_OF_ALL ","
              "'turns':'Beside system and developer, the first and the last message are of a "
              "user; with continue_final_message the last one is of an assistant.',"
              "'continue':'Not continue_final_message and add_generation_prompt.',"
              "'pictures':'Not more pictures than the model takes, each a JPEG, PNG, WebP or GIF "
              "file in a data URL, or where this server brings it from, or the id of one that was "
              "uploaded with the same key.',"
              "'grounding':'Needs a picture.',"
              "'top_logprobs':'Needs logprobs.',"
              "'prompt_logprobs':'Not in a stream.',"
              "'tools':'With tools or functions tool_choice or function_call is none.'}" },
    { .name = "BatchRequest",
      .tables = { &cog_params_fields, &cog_chat_batch_fields },
      .has_one_choice = true,
      .more = ",'x-rules':{" RULES_OF_ALL ","
              "'batch':'It is not a stream, and has no more conversations than the queue has "
              "places. The rules of a chat are those of each conversation.',"
              "'continue':'Not continue_final_message and add_generation_prompt.',"
              "'top_logprobs':'Needs logprobs.',"
              "'tools':'With tools or functions tool_choice or function_call is none.'}" },
    { .name = "CompletionRequest",
      .tables = { &cog_params_fields, &cog_completion_fields },
      .more = ",'x-rules':{" RULES_OF_ALL ","
              "'control':'Token ids of a prompt are of tokens that have a text.',"
              "'prompts':'Not more prompts than the queue has places.',"
              "'echo':'With logprobs not in a stream.',"
              "'prompt_logprobs':'Not in a stream.',"
              "'max_tokens':'0 only with echo.'}" },
    { .name = "ResponseRequest",
      .tables = { &cog_params_fields, &cog_responses_fields },
      .has_one_choice = true,
      .more = ",'x-rules':{" RULES_OF_ALL ","
              "'turns':'Beside system and developer, the first and the last message are of a "
              "user.',"
              "'pictures':'Not more pictures than the model takes, each a JPEG, PNG, WebP or GIF "
              "file in a data URL, or where this server brings it from.',"
              "'top_logprobs':'Needs message.output_text.logprobs in include.',"
              "'tools':'With tools tool_choice is none.'}" },
    { .name = "TokenizeRequest",
      .tables = { &cog_tokenize_fields, NULL },
      .more = ",'oneOf':["
              "{'required':['prompt'],'properties':{'prompt':{'type':'string'},"
              "'content':{'type':'null'},'messages':{'type':'null'}}},"
              "{'required':['content'],'properties':{'content':{'type':'string'},"
              "'prompt':{'type':'null'},'messages':{'type':'null'}}},"
              "{'required':['messages'],'properties':{'prompt':{'type':'null'},"
              "'content':{'type':'null'}},'allOf':[@ChatRequest]}]"
              ",'x-rules':{" RULES_OF_ALL ","
              "'chat':'With messages, the rules of a chat.'}",
      .takes_unknown = true },
    { .name = "DetokenizeRequest", .tables = { &cog_detokenize_fields, NULL }, .more = "" },
    { .name = NULL },
};

/* ------------------------------------------------------------------ schemas */

/* Those of requests, then those of answers. */
const cog_openapi_schema cog_openapi_schemas[] = {
    { "Count", "{'type':'integer','minimum':0}" },
    { "Milliseconds", "{'type':'number','minimum':0}" },
    { "Byte", "{'type':'integer','minimum':0,'maximum':255}" },
    { "StopString", "{'type':'string','minLength':1,'maxLength':256}" },
    { "UserTextPart",
      "{'type':'object','required':['type','text'],'properties':{'type':{'enum':['text',"
      "'input_text']},'text':{'type':'string'}}}" },
    { "AnswerTextPart",
      "{'type':'object','required':['type','text'],'properties':{'type':{'enum':['text',"
      "'output_text']},'text':{'type':'string'}}}" },
    { "RefusalPart", "{'type':'object','required':['type','refusal'],"
                     "'properties':{'type':{'enum':['refusal']},'refusal':{'type':'string'}}}" },
    { "ImagePart",
      "{'type':'object','required':['type','image_url'],"
      "'properties':{'type':{'enum':['image_url','input_image']},'uuid':{'type':['string',"
      "'null'],'maxLength':128},'image_url':{'type':'object','required':['url'],"
      "'properties':{'url':{'type':'string'},'detail':{'enum':['auto','low','high',"
      "'original',null]}}}}}" },
    { "ShortImagePart",
      "{'type':'object','required':['type','image_url'],"
      "'properties':{'type':{'enum':['image_url','input_image']},'uuid':{'type':['string',"
      "'null'],'maxLength':128},'image_url':{'type':'string'},'detail':{'enum':['auto',"
      "'low','high','original',null]}}}" },
    { "StoredImagePart",
      "{'type':'object','required':['type','file_id'],"
      "'properties':{'type':{'enum':['image_url','input_image']},'file_id':{'type':'string'},"
      "'detail':{'enum':['auto','low','high','original',null]}}}" },
    { "FilePart", "{'type':'object','required':['type','file'],"
                  "'properties':{'type':{'enum':['file']},'file':{'anyOf':["
                  "{'type':'object','required':['file_id'],'properties':{'file_id':{"
                  "'type':'string'},'file_data':{'type':'null'}}},"
                  "{'type':'object','required':['file_data'],'properties':{'file_data':{"
                  "'type':'string'},'file_id':{'type':'null'}}}]}}}" },
    { "ImageFilePart", "{'type':'object','required':['type','image_file'],"
                       "'properties':{'type':{'enum':['image_file']},'image_file':{'type':'object',"
                       "'required':['file_id'],'properties':{'file_id':{'type':'string'},"
                       "'detail':{'enum':['auto','low','high','original',null]}}}}}" },
    { "FileRequest",
      "{'type':'object','required':['file','purpose'],'properties':{"
      "'file':{'type':'string','contentMediaType':'application/octet-stream'},"
      "'purpose':{'enum':['vision','user_data']},"
      "'expires_after[anchor]':{'enum':['created_at']},"
      "'expires_after[seconds]':{'type':'integer','minimum':3600,'maximum':2592000}},"
      "'dependentRequired':{'expires_after[anchor]':['expires_after[seconds]'],"
      "'expires_after[seconds]':['expires_after[anchor]']}}" },
    { "SystemMessage", "{'type':'object','required':['role','content'],"
                       "'properties':{'role':{'enum':['system','developer']},"
                       "'content':{'anyOf':[{'type':'string'},{'type':'array','minItems':1,"
                       "'items':{'anyOf':[@UserTextPart]}}]},'tool_calls':{'maxItems':0}}}" },
    { "UserMessage", "{'type':'object','required':['role','content'],"
                     "'properties':{'role':{'enum':['user']},'content':{'anyOf':[{'type':'string'},"
                     "{'type':'array','minItems':1,'items':{'anyOf':[@UserTextPart,@ImagePart,"
                     "@ShortImagePart,@StoredImagePart,@FilePart,@ImageFilePart]}}]},'tool_calls':{"
                     "'maxItems':0}}}" },
    { "AssistantMessage",
      "{'type':'object','required':['role'],'properties':{'role':{'enum':['assistant']},"
      "'content':{'anyOf':[{'type':'string'},{'type':'null'},{'type':'array','minItems':1,"
      "'items':{'anyOf':[@AnswerTextPart,@RefusalPart]}}]},'tool_calls':{'maxItems':0}}}" },
    { "Message", "{'anyOf':[@SystemMessage,@UserMessage,@AssistantMessage]}" },
    { "InputItem", "{'type':'object','properties':{'type':{'enum':['message',null]}},"
                   "'allOf':[@Message]}" },

    { "ChatCompletion",
      "{'type':'object','required':['id','object','created','model','system_fingerprint',"
      "'choices','usage'],'properties':{'id':{'type':'string'},"
      "'object':{'const':'chat.completion'},'created':@Count,'model':{'type':'string'},"
      "'system_fingerprint':{'type':'string'},'image_sizes':{'type':'array',"
      "'items':{'type':'array','items':@Count}},'choices':{'type':'array',"
      "'items':@ChatChoice},'usage':{'anyOf':[@Usage,{'type':'null'}]},'metrics':@Metrics,"
      "'prompt_logprobs':@PromptLogprobs,'prompt_token_ids':@TokenIds}}" },
    { "ChatChoice",
      "{'type':'object','required':['index','message','logprobs','finish_reason',"
      "'stop_reason'],'properties':{'index':@Count,'message':@Answer,"
      "'logprobs':{'anyOf':[@Logprobs,{'type':'null'}]},'finish_reason':{'enum':['stop',"
      "'length']},'stop_reason':{'type':['string','integer','null']},"
      "'grounding':{'type':'array','items':@Grounding},'confidence':@Confidence,'token_ids':@"
      "TokenIds}}" },
    { "BatchCompletion",
      "{'type':'object','required':['id','object','created','model','system_fingerprint',"
      "'choices','usage'],'properties':{'id':{'type':'string'},"
      "'object':{'const':'chat.completion'},'created':@Count,'model':{'type':'string'},"
      "'system_fingerprint':{'type':'string'},'choices':{'type':'array','items':{'anyOf':["
      "@BatchChoice,@FailedChoice]}},'usage':@Usage}}" },
    { "BatchChoice",
      "{'type':'object','required':['index','message','logprobs','finish_reason',"
      "'stop_reason'],'properties':{'index':@Count,'message':@Answer,"
      "'logprobs':{'anyOf':[@Logprobs,{'type':'null'}]},'finish_reason':{'enum':['stop',"
      "'length']},'stop_reason':{'type':['string','integer','null']},'image_sizes':{"
      "'type':'array','items':{'type':'array','items':@Count}},"
      "'grounding':{'type':'array','items':@Grounding},'prompt_logprobs':@"
      "PromptLogprobs,'confidence':@Confidence,'prompt_token_ids':@TokenIds,'token_ids':@TokenIds}"
      "}" },
    { "FailedChoice",
      "{'type':'object','required':['index','message','logprobs','finish_reason',"
      "'stop_reason','error'],'properties':{'index':@Count,'message':{'type':'object',"
      "'required':['role','content','refusal','annotations'],'properties':{"
      "'role':{'const':'assistant'},'content':{'type':'null'},'refusal':{'type':'null'},"
      "'annotations':{'type':'array','maxItems':0}}},'logprobs':{'type':'null'},"
      "'finish_reason':{'type':'null'},'stop_reason':{'type':'null'},'error':{'type':'object',"
      "'required':['message','type','param','code'],'properties':{'message':{'type':'string'},"
      "'type':{'type':'string'},'param':{'type':['string','null']},'code':{'type':'string'}}}}}" },
    { "Answer", "{'type':'object','required':['role','content','refusal','annotations'],"
                "'properties':{'role':{'const':'assistant'},'content':{'type':'string'},"
                "'refusal':{'type':'null'},'annotations':{'type':'array','maxItems':0}}}" },
    { "ChatCompletionChunk",
      "{'type':'object','required':['id','object','created','model','system_fingerprint',"
      "'choices'],'properties':{'id':{'type':'string'},"
      "'object':{'const':'chat.completion.chunk'},'created':@Count,"
      "'model':{'type':'string'},'system_fingerprint':{'type':'string'},"
      "'image_sizes':{'type':'array','items':{'type':'array','items':@Count}},"
      "'choices':{'type':'array','items':@ChatChunkChoice},'usage':{'anyOf':[@Usage,"
      "{'type':'null'}]},'metrics':@Metrics,'prompt_token_ids':@TokenIds}}" },
    { "ChatChunkChoice",
      "{'type':'object','required':['index','delta','logprobs','finish_reason'],"
      "'properties':{'index':@Count,'delta':@Delta,'logprobs':{'anyOf':[@Logprobs,"
      "{'type':'null'}]},'finish_reason':{'enum':['stop','length',null]},"
      "'stop_reason':{'type':['string','integer','null']},'grounding':{'type':'array',"
      "'items':@Grounding},'confidence':@Confidence,'token_ids':@TokenIds}}" },
    { "Delta", "{'type':'object','required':[],'properties':{'role':{'const':'assistant'},"
               "'content':{'type':'string'},'refusal':{'type':'null'}}}" },
    { "Completion",
      "{'type':'object','required':['id','object','created','model','system_fingerprint',"
      "'choices','usage'],'properties':{'id':{'type':'string'},"
      "'object':{'const':'text_completion'},'created':@Count,'model':{'type':'string'},"
      "'system_fingerprint':{'type':'string'},'image_sizes':{'type':'array',"
      "'items':{'type':'array','items':@Count}},'choices':{'type':'array',"
      "'items':@CompletionChoice},'usage':{'anyOf':[@Usage,{'type':'null'}]},"
      "'metrics':@Metrics}}" },
    { "CompletionChoice",
      "{'type':'object','required':['index','text','logprobs','finish_reason',"
      "'stop_reason'],'properties':{'index':@Count,'text':{'type':'string'},"
      "'logprobs':{'anyOf':[@LogprobColumns,{'type':'null'}]},"
      "'finish_reason':{'enum':['stop','length']},"
      "'stop_reason':{'type':['string','integer','null']},'confidence':@Confidence,"
      "'prompt_logprobs':@PromptLogprobs,'prompt_token_ids':@TokenIds,'token_ids':@TokenIds}}" },
    { "CompletionChunk",
      "{'type':'object','required':['id','object','created','model','system_fingerprint',"
      "'choices'],'properties':{'id':{'type':'string'},"
      "'object':{'const':'text_completion'},'created':@Count,'model':{'type':'string'},"
      "'system_fingerprint':{'type':'string'},'image_sizes':{'type':'array',"
      "'items':{'type':'array','items':@Count}},'choices':{'type':'array',"
      "'items':@CompletionChunkChoice},'usage':{'anyOf':[@Usage,{'type':'null'}]},"
      "'metrics':@Metrics}}" },
    { "CompletionChunkChoice",
      "{'type':'object','required':['index','text','logprobs','finish_reason'],"
      "'properties':{'index':@Count,'text':{'type':'string'},"
      "'logprobs':{'anyOf':[@LogprobColumns,{'type':'null'}]},'finish_reason':{'enum':['stop','"
      "length',null]},'stop_reason':{'type':['string',"
      "'integer','null']},'confidence':@Confidence,'prompt_token_ids':@TokenIds,'token_ids':@"
      "TokenIds}}" },
    { "Response",
      "{'type':'object','required':['id','object','created_at','status','error',"
      "'incomplete_details','model','output','usage','instructions','max_output_tokens',"
      "'metadata','temperature','top_p','top_logprobs','tool_choice','user','text','background',"
      "'max_tool_calls','parallel_tool_calls','previous_response_id','reasoning','store','tools',"
      "'truncation'],'properties':{'id':{'type':'string'},'object':{'const':'response'},"
      "'created_at':@Count,'status':{'enum':['in_progress','completed','incomplete','failed']},"
      "'error':{'anyOf':[@ResponseError,{'type':'null'}]},'incomplete_details':{'anyOf':["
      "@IncompleteDetails,{'type':'null'}]},'model':{'type':'string'},'output':{'type':'array',"
      "'maxItems':1,'items':@OutputItem},'usage':{'anyOf':[@ResponseUsage,{'type':'null'}]},"
      "'metrics':@Metrics,'instructions':{'type':['string','null']},"
      "'max_output_tokens':{'type':['number','null']},'metadata':{'type':'object',"
      "'additionalProperties':{'type':'string'}},'temperature':{'type':'number'},"
      "'top_p':{'type':'number'},'top_logprobs':{'type':'number'},'tool_choice':{'enum':['none',"
      "'auto']},'user':{'type':['string','null']},'text':@ResponseText,"
      "'background':{'const':false},'max_tool_calls':{'type':'null'},"
      "'parallel_tool_calls':{'const':false},'previous_response_id':{'type':'null'},"
      "'reasoning':@Reasoning,'store':{'const':false},'tools':{'type':'array','maxItems':0},"
      "'truncation':{'const':'disabled'}}}" },
    { "ResponseError", "{'type':'object','required':['code','message'],"
                       "'properties':{'code':{'type':'string'},'message':{'type':'string'}}}" },
    { "IncompleteDetails", "{'type':'object','required':['reason'],"
                           "'properties':{'reason':{'const':'max_output_tokens'}}}" },
    { "ResponseText", "{'type':'object','required':['format'],"
                      "'properties':{'format':{'type':'object'}}}" },
    { "Reasoning", "{'type':'object','required':['effort','summary'],"
                   "'properties':{'effort':{'type':'null'},'summary':{'type':'null'}}}" },
    { "OutputItem", "{'type':'object','required':['type','id','status','role','content'],"
                    "'properties':{'type':{'const':'message'},'id':{'type':'string'},"
                    "'status':{'enum':['in_progress','completed','incomplete']},"
                    "'role':{'const':'assistant'},'content':{'type':'array','maxItems':1,"
                    "'items':@OutputText}}}" },
    { "OutputText", "{'type':'object','required':['type','text','annotations','logprobs'],"
                    "'properties':{'type':{'const':'output_text'},'text':{'type':'string'},"
                    "'annotations':{'type':'array','maxItems':0},'logprobs':{'type':'array',"
                    "'items':@TokenLogprob}}}" },
    { "ResponseUsage",
      "{'type':'object','required':['input_tokens','input_tokens_details','output_tokens',"
      "'output_tokens_details','total_tokens'],'properties':{'input_tokens':@Count,"
      "'input_tokens_details':{'type':'object','required':['cached_tokens','image_tokens',"
      "'text_tokens'],'properties':{'cached_tokens':@Count,'image_tokens':@Count,"
      "'text_tokens':@Count}},'output_tokens':@Count,'output_tokens_details':{'type':'object',"
      "'required':['reasoning_tokens'],'properties':{'reasoning_tokens':@Count}},"
      "'total_tokens':@Count}}" },
    { "ResponseEvent", "{'anyOf':[@StateEvent,@ItemEvent,@PartEvent,@DeltaEvent,@DoneEvent,"
                       "@ErrorEvent]}" },
    { "StateEvent", "{'type':'object','required':['type','sequence_number','response'],"
                    "'properties':{'type':{'enum':['response.created','response.in_progress',"
                    "'response.completed','response.incomplete','response.failed']},"
                    "'sequence_number':@Count,'response':@Response}}" },
    { "ItemEvent", "{'type':'object','required':['type','sequence_number','output_index','item'],"
                   "'properties':{'type':{'enum':['response.output_item.added',"
                   "'response.output_item.done']},'sequence_number':@Count,'output_index':@Count,"
                   "'item':@OutputItem}}" },
    { "PartEvent",
      "{'type':'object','required':['type','sequence_number','output_index','content_index',"
      "'item_id','part'],'properties':{'type':{'enum':['response.content_part.added',"
      "'response.content_part.done']},'sequence_number':@Count,'output_index':@Count,"
      "'content_index':@Count,'item_id':{'type':'string'},'part':@OutputText}}" },
    { "DeltaEvent",
      "{'type':'object','required':['type','sequence_number','output_index','content_index',"
      "'item_id','delta','logprobs'],'properties':{'type':{'const':'response.output_text.delta'},"
      "'sequence_number':@Count,'output_index':@Count,'content_index':@Count,"
      "'item_id':{'type':'string'},'delta':{'type':'string'},'logprobs':{'type':'array',"
      "'items':@TokenLogprob}}}" },
    { "DoneEvent",
      "{'type':'object','required':['type','sequence_number','output_index','content_index',"
      "'item_id','text','logprobs'],'properties':{'type':{'const':'response.output_text.done'},"
      "'sequence_number':@Count,'output_index':@Count,'content_index':@Count,"
      "'item_id':{'type':'string'},'text':{'type':'string'},'logprobs':{'type':'array',"
      "'items':@TokenLogprob}}}" },
    { "ErrorEvent", "{'type':'object','required':['type','sequence_number','code','message',"
                    "'param'],'properties':{'type':{'const':'error'},'sequence_number':@Count,"
                    "'code':{'type':'string'},'message':{'type':'string'},'param':{'type':["
                    "'string','null']}}}" },
    { "Grounding", "{'type':'object','required':['phrase','start','end','boxes'],"
                   "'properties':{'phrase':{'type':'string'},'start':@Count,'end':@Count,"
                   "'boxes':{'type':'array','items':@Box}}}" },
    { "Box", "{'type':'object','required':['x0','y0','x1','y1'],"
             "'properties':{'x0':{'type':'number','minimum':0},'y0':{'type':'number','minimum':0},"
             "'x1':{'type':'number','minimum':0},'y1':{'type':'number','minimum':0}}}" },
    { "PromptLogprobs",
      "{'type':'array','items':{'type':['object','null'],'additionalProperties':{'type':'object',"
      "'required':['logprob','rank','decoded_token'],'properties':{'logprob':{'type':'number',"
      "'maximum':0},'rank':{'type':'integer','minimum':1},"
      "'decoded_token':{'type':'string'}}}}}" },
    { "Confidence",
      "{'type':'object','required':['mean_logprob'],'properties':{'mean_logprob':{'type':["
      "'number','null'],'maximum':0},'choices':{'type':'array','items':{'type':'object',"
      "'required':['text','logprob','probability'],'properties':{'text':{'type':'string'},"
      "'logprob':{'type':'number','maximum':0},'probability':{'type':'number','minimum':0,"
      "'maximum':1}}}}}}" },
    { "Logprob", "{'type':'object','required':['token','logprob','bytes'],"
                 "'properties':{'token':{'type':'string'},'logprob':{'type':'number','maximum':0},"
                 "'bytes':{'type':'array','items':@Byte}}}" },
    { "TokenLogprob",
      "{'type':'object','required':['token','logprob','bytes','top_logprobs'],"
      "'properties':{'token':{'type':'string'},'logprob':{'type':'number','maximum':0},"
      "'bytes':{'type':'array','items':@Byte},'top_logprobs':{'type':'array',"
      "'items':@Logprob}}}" },
    { "Logprobs", "{'type':'object','required':['content','refusal'],"
                  "'properties':{'content':{'type':'array','items':@TokenLogprob},"
                  "'refusal':{'type':'null'}}}" },
    { "LogprobColumns",
      "{'type':'object','required':['tokens','token_logprobs','top_logprobs','text_offset'],"
      "'properties':{'tokens':{'type':'array','items':{'type':'string'}},"
      "'token_logprobs':{'type':'array','items':{'type':['number','null'],'maximum':0}},"
      "'top_logprobs':{'type':'array','items':{'type':['object','null'],"
      "'additionalProperties':{'type':'number','maximum':0}}},"
      "'text_offset':{'type':'array','items':@Count}}}" },
    { "Usage", "{'type':'object','required':['prompt_tokens','completion_tokens','total_tokens',"
               "'prompt_tokens_details','completion_tokens_details'],"
               "'properties':{'prompt_tokens':@Count,'completion_tokens':@Count,"
               "'total_tokens':@Count,'prompt_tokens_details':@PromptTokens,"
               "'completion_tokens_details':@CompletionTokens}}" },
    { "PromptTokens", "{'type':'object','required':['cached_tokens','image_tokens','text_tokens',"
                      "'audio_tokens'],'properties':{'cached_tokens':@Count,'image_tokens':@Count,"
                      "'text_tokens':@Count,'audio_tokens':@Count}}" },
    { "CompletionTokens",
      "{'type':'object','required':['reasoning_tokens','audio_tokens',"
      "'accepted_prediction_tokens','rejected_prediction_tokens'],"
      "'properties':{'reasoning_tokens':@Count,'audio_tokens':@Count,"
      "'accepted_prediction_tokens':@Count,'rejected_prediction_tokens':@Count}}" },
    { "Metrics", "{'type':'object','required':['time_to_first_token_ms','generation_time_ms',"
                 "'queue_time_ms','image_decode_ms','vision_encode_ms','prefill_ms','mean_itl_ms',"
                 "'tokens_per_second'],'properties':{'time_to_first_token_ms':@Milliseconds,"
                 "'generation_time_ms':@Milliseconds,'queue_time_ms':@Milliseconds,"
                 "'image_decode_ms':@Milliseconds,'vision_encode_ms':@Milliseconds,"
                 "'prefill_ms':@Milliseconds,'mean_itl_ms':{'type':['number','null'],'minimum':0},"
                 "'tokens_per_second':{'type':'number','minimum':0}}}" },
    { "InputTokens",
      "{'type':'object','required':['object','input_tokens','image_tokens'],"
      "'properties':{'object':{'const':'response.input_tokens'},'input_tokens':@Count,"
      "'image_tokens':@Count}}" },
    { "Tokens", "{'type':'object','required':['count','max_model_len','tokens','token_strs'],"
                "'properties':{'count':@Count,'max_model_len':@Count,'tokens':{'type':'array',"
                "'items':{'anyOf':[@TokenId,@Piece]}},'token_strs':{'type':['array','null'],"
                "'items':{'type':'string'}}}}" },
    { "TokenIds", "{'type':'array','items':@TokenId}" },
    { "Piece", "{'type':'object','required':['id','piece'],'properties':{'id':@TokenId,"
               "'piece':{'anyOf':[{'type':'string'},{'type':'array','items':@Byte}]}}}" },
    { "Text", "{'type':'object','required':['prompt','content'],"
              "'properties':{'prompt':{'type':'string'},'content':{'type':'string'}}}" },
    { "Model", "{'type':'object','required':['id','object','created','owned_by','root','parent',"
               "'permission','architecture'],'properties':{'id':{'type':'string'},"
               "'object':{'const':'model'},'created':@Count,'owned_by':{'type':'string'},"
               "'root':{'type':'string'},'parent':{'type':'null'},'max_model_len':@Count,"
               "'permission':{'type':'array','maxItems':0},'architecture':@Architecture,"
               "'meta':@ModelFacts}}" },
    { "Architecture", "{'type':'object','required':['input_modalities','output_modalities'],"
                      "'properties':{'input_modalities':{'type':'array','items':{'type':'string'}},"
                      "'output_modalities':{'type':'array','items':{'type':'string'}}}}" },
    { "ModelFacts",
      "{'type':'object','required':['image_tokens','image_size','max_images',"
      "'quantization','engine','weights_fingerprint'],'properties':{'image_tokens':@Count,"
      "'image_size':@Count,'max_images':@Count,'quantization':{'type':'string'},"
      "'engine':{'type':'string'},'weights_fingerprint':{'type':'string'}}}" },
    { "File", "{'type':'object','required':['id','object','bytes','created_at','expires_at',"
              "'filename','purpose','status'],'properties':{'id':{'type':'string'},"
              "'object':{'const':'file'},'bytes':@Count,'created_at':@Count,'expires_at':@Count,"
              "'filename':{'type':'string'},'purpose':{'enum':['vision','user_data']},"
              "'status':{'const':'processed'}}}" },
    { "FileList", "{'type':'object','required':['object','data','first_id','last_id','has_more'],"
                  "'properties':{'object':{'const':'list'},'data':{'type':'array','items':@File},"
                  "'first_id':{'type':['string','null']},'last_id':{'type':['string','null']},"
                  "'has_more':{'type':'boolean'}}}" },
    { "DeletedFile", "{'type':'object','required':['id','object','deleted'],"
                     "'properties':{'id':{'type':'string'},'object':{'const':'file'},"
                     "'deleted':{'const':true}}}" },
    { "ModelList",
      "{'type':'object','required':['object','data'],"
      "'properties':{'object':{'const':'list'},'data':{'type':'array','items':@Model}}}" },
    { "Version", "{'type':'object','required':['version','commit','engine','model','quantization'],"
                 "'properties':{'version':{'type':'string'},'commit':{'type':'string'},"
                 "'engine':{'type':['string','null']},'model':{'type':'string'},"
                 "'quantization':{'type':['string','null']}}}" },
    { "Document", "{'type':'object','required':['openapi','info','paths']}" },
    { "Liveness", "{'type':'object','required':['status'],'properties':{'status':{'enum':['failed',"
                  "'stuck']}}}" },
    { "Readiness", "{'type':'object','required':['status','progress'],"
                   "'properties':{'status':{'enum':['ready','loading','draining','failed']},"
                   "'progress':{'type':'number','minimum':0,'maximum':1}}}" },
    { "Health", "{'type':'object','required':['status'],'properties':{'status':{'const':'ok'}}}" },
    { NULL, NULL },
};

const char cog_openapi_headers[] =
    "'x-request-id':{'description':'The name of the request in the log; the X-Request-Id of the "
    "request where it is fit.','required':true,'schema':{'type':'string',"
    "'pattern':'^[A-Za-z0-9._:-]{1,128}$'}},"
    "'x-ignored-parameters':{'description':'Fields that are not known, with commas between "
    "them.','schema':{'type':'string'}},"
    "'openai-processing-ms':{'description':'Milliseconds; not in streams.',"
    "'schema':{'type':'integer','minimum':0}},"
    "'Server-Timing':{'description':'Milliseconds of each stage; not in streams.',"
    "'schema':{'type':'string'}},"
    "'WWW-Authenticate':{'required':true,'schema':{'const':'Bearer'}},"
    "'Retry-After':{'description':'Seconds.','required':true,"
    "'schema':{'type':'integer','minimum':1,'maximum':60}},"
    "'retry-after-ms':{'description':'The same in milliseconds.',"
    "'schema':{'type':'integer','minimum':1,'maximum':60000}},"
    "'x-should-retry':{'description':'Whether another try makes sense.',"
    "'schema':{'enum':['true','false']}}";
