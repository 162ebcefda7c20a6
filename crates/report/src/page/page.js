(function(){
"use strict";
// Hovering a series lights up the same series in its figure and dims the others.
document.querySelectorAll("figure svg").forEach(function(svg){
  svg.addEventListener("mouseover",function(e){
    var g=e.target.closest("[data-k]");
    if(!g){svg.classList.remove("lit");return;}
    svg.classList.add("lit");
    svg.querySelectorAll("[data-k]").forEach(function(o){o.classList.toggle("on",o.dataset.k===g.dataset.k);});
  });
  svg.addEventListener("mouseleave",function(){svg.classList.remove("lit");});
});
// A click on a column's head sorts by it.
document.querySelectorAll("table.sortable").forEach(function(table){
  var body=table.tBodies[0];
  Array.prototype.forEach.call(table.tHead.rows[0].cells,function(th,i){
    th.classList.add("sort");
    var up=true;
    th.addEventListener("click",function(){
      var rows=Array.prototype.slice.call(body.rows);
      rows.sort(function(a,b){
        var x=a.cells[i].dataset.v||a.cells[i].textContent,y=b.cells[i].dataset.v||b.cells[i].textContent;
        var d=parseFloat(x)-parseFloat(y);
        if(isNaN(d)){d=x<y?-1:x>y?1:0;}
        return up?d:-d;
      });
      up=!up;
      rows.forEach(function(r){body.appendChild(r);});
    });
  });
});
window.addEventListener("beforeprint",function(){document.querySelectorAll("details").forEach(function(d){d.open=true;});});
})();
