-- a notebook's links to other files lead nowhere in a page that is mailed, its figures to their place
function Link(link)
  if not link.target:match("^https?:") and not link.target:match("^#") then return link.content end
end

function Image(image)
  local figure = image.src:match("(fig[%w_]+)%.png$")
  if figure then return pandoc.RawInline("html", "<a href='#" .. figure .. "'>" .. pandoc.utils.stringify(image.caption) .. "</a>") end
end
